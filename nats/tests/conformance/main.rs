//! One list of scenarios, stamped on the bus in memory and on the bus over a real nats-server.
//!
//! Never lets one implementation off a rule that the other keeps. Without a nats-server its half
//! says loudly that it was skipped.

mod answers;
mod bounds;
mod delivery;
#[path = "../../../tests/src/ledger.rs"]
pub mod ledger;
mod registration;
mod world;

/// Stamps each scenario on both worlds.
macro_rules! conformance {
    ($($module:ident { $($scenario:ident,)* })*) => {
        mod memory {
            $($(#[tokio::test]
            async fn $scenario() {
                crate::$module::$scenario(crate::world::World::memory()).await;
            })*)*
        }
        mod real {
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                if let Some(world) = crate::world::World::real().await {
                    crate::$module::$scenario(world).await;
                }
            })*)*
        }
    };
}

conformance! {
    delivery {
        one_publisher_keeps_its_order,
        wildcards_cover_their_tokens,
        own_publications_come_back,
        a_group_gives_each_message_to_one_member,
        a_group_spans_patterns,
        a_dropped_member_is_not_chosen,
        headers_make_the_round_trip,
    }
    answers {
        a_request_gets_its_own_answer,
        a_request_times_out_and_is_forgotten,
        a_request_without_listeners_fails_at_once,
        a_reply_without_listeners_is_told_to_the_publisher_alone,
        a_dropped_subscription_leaves_no_interest,
        inboxes_are_unique_and_usable,
        flushing_makes_a_subscription_effective,
    }
    bounds {
        a_slow_consumer_drops_counts_and_recovers,
        too_large_a_message_is_refused_here,
        subjects_are_checked_before_sending,
        headers_are_checked_before_sending,
        draining_delivers_what_was_sent_then_ends,
        closing_ends_everything,
    }
    registration {
        a_service_answers_questions,
        a_service_refuses_bad_names,
    }
}
