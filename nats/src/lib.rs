//! Bus: control messages.

pub mod bus;
pub use bus::{
    Bus, BusFuture, Delivery, Headers, Link, Publication, PublishError, RequestError,
    SubscribeError, Subscription,
};
