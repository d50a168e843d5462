//! Behaviour of the program against a scripted lock service.
