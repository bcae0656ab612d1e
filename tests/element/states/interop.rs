//! State changes of a live pipeline with an encoder and a muxer.

use super::*;

#[test]
fn every_pair_of_states_of_a_live_pipeline() {
    let live = "videotestsrc is-live=true ! video/x-raw,width=64,height=48 ! avenc_wmv2 ! identity single-segment=true \
                ! asfmux streamable=true packet-size=500";
    go_through_every_pair(&File::new(60_000), &[(live, "async=true"), (live, "async=false sync=false")]);
}
