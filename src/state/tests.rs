//! Behaviour of the engine as a whole. The comparison with a brute-force model is in `model`.
