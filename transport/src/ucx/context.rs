//! A UCX context with one registered region: owned handles, released in the right order.
//!
//! Only active messages are asked for, never one-sided access: without it a peer has no key to our memory.

use std::{ptr, sync::Arc};

use gpu::Region;
use ucx_sys::{
    UCP_API_MAJOR, UCP_API_MINOR, UCP_FEATURE_AM, UCP_FEATURE_WAKEUP,
    UCP_MEM_MAP_PARAM_FIELD_ADDRESS, UCP_MEM_MAP_PARAM_FIELD_LENGTH, UCP_PARAM_FIELD_FEATURES, Ucp,
    ucp_context_h, ucp_mem_h, ucp_mem_map_params_t, ucp_params_t,
};

use super::{
    error::{UcxError, check},
    settings::{Settings, UcxOptions},
};

/// A context and its region.
pub(super) struct Context {
    ucp: &'static Ucp,
    raw: ucp_context_h,
    memory: ucp_mem_h,
    region: Arc<Region>,
}

impl Context {
    pub(super) fn new(options: &UcxOptions, region: &Arc<Region>) -> Result<Self, UcxError> {
        let (ucp, _) = ucx_sys::open()?;
        let settings = Settings::new(ucp, options)?;
        let params = ucp_params_t {
            field_mask: u64::from(UCP_PARAM_FIELD_FEATURES),
            features: u64::from(UCP_FEATURE_AM | UCP_FEATURE_WAKEUP),
            ..ucp_params_t::default()
        };
        let mut raw = ptr::null_mut();
        // SAFETY: parameters and configuration outlive the call; the version is that of the bindings.
        let status = unsafe {
            ucp.ucp_init_version(
                UCP_API_MAJOR,
                UCP_API_MINOR,
                &raw const params,
                settings.raw(),
                &raw mut raw,
            )
        };
        check(
            ucp,
            status,
            "make a context (are its lanes and devices present?)",
        )?;
        let mut context = Self {
            ucp,
            raw,
            memory: ptr::null_mut(),
            region: Arc::clone(region),
        };
        context.memory = context.register()?;
        Ok(context)
    }

    fn register(&self) -> Result<ucp_mem_h, UcxError> {
        let params = ucp_mem_map_params_t {
            field_mask: u64::from(UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH),
            address: self.region.base().cast(),
            length: self.region.bytes(),
            ..ucp_mem_map_params_t::default()
        };
        let mut memory = ptr::null_mut();
        // SAFETY: the region is mapped as long as we hold it, which is until after it was unregistered.
        let status = unsafe {
            self.ucp
                .ucp_mem_map(self.raw, &raw const params, &raw mut memory)
        };
        check(
            self.ucp,
            status,
            "register the KV blocks (is the memlock limit too low?)",
        )?;
        Ok(memory)
    }

    pub(super) fn ucp(&self) -> &'static Ucp {
        self.ucp
    }

    pub(super) fn raw(&self) -> ucp_context_h {
        self.raw
    }

    pub(super) fn memory(&self) -> ucp_mem_h {
        self.memory
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: both handles are ours and are released once, the memory first; no worker is left by then.
        unsafe {
            if !self.memory.is_null() {
                let status = self.ucp.ucp_mem_unmap(self.raw, self.memory);
                if let Err(error) = check(self.ucp, status, "unregister the KV blocks") {
                    tracing::error!(%error, "a UCX context is closed anyway");
                }
            }
            self.ucp.ucp_cleanup(self.raw);
        }
    }
}
