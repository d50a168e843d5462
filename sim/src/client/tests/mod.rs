//! Clients against a small honest lock server that lives in memory, and against scripted answers.
