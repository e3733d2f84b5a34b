//! thalamus-tests
