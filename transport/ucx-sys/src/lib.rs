//! Raw UCP: the functions, types and constants of UCX 1.13 that Thalamus calls.
