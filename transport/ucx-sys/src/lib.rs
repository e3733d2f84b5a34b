//! ucx-sys
