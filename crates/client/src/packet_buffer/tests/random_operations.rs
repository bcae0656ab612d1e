//! Random sequences of appended, taken, acknowledged and lost packets.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Append(u32),
    Take(u64),
    /// The peer has not received this many of the last bytes.
    Lose(u64),
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each packet arrives once and in order, or is counted as dropped, whatever is lost and when.
    #[test]
    fn undelivered_packets_are_counted(
        policy in prop_oneof![Just(DropPolicy::Keyframe), Just(DropPolicy::Oldest)],
        operations in prop::collection::vec(prop_oneof![
            (1_u32..40).prop_map(Operation::Append),
            (0_u64..6000).prop_map(Operation::Take),
            (0_u64..6000).prop_map(Operation::Lose),
        ], 1..80),
    ) {
        let headers = [header(300), header(400)];
        let buffer = limited_to(12);
        let mut reader = buffer.reader(StartPosition::Oldest, with_policy(policy));
        let (mut appended, mut arrived) = (0, Vec::<(u32, u32)>::new());
        for (step, operation) in operations.into_iter().chain([Operation::Take(u64::MAX); 12]).enumerate() {
            match operation {
                Operation::Append(count) => {
                    append(&buffer, &headers[step % 2], appended..appended + count);
                    appended += count;
                }
                Operation::Take(bytes) => {
                    if let Some(batch) = reader.take(bytes) {
                        arrived.extend(numbers(&batch).into_iter().zip(batch.sizes.iter().copied()));
                    }
                }
                Operation::Lose(bytes) => {
                    let (before, mut left) = (arrived.len(), bytes);
                    while left > 0 && let Some((_, size)) = arrived.pop() {
                        left = left.saturating_sub(size.into());
                    }
                    prop_assert_eq!(reader.packets_in_last(bytes), (before - arrived.len()) as u64);
                    reader.rewind(bytes);
                }
            }
        }
        let arrived: Vec<u32> = arrived.into_iter().map(|(number, _)| number).collect();
        prop_assert!(arrived.is_sorted_by(|one, next| one < next), "{:?}", arrived);
        let Progress { taken, dropped, lag, .. } = reader.progress();
        prop_assert_eq!((taken, dropped + lag.packets), (arrived.len() as u64, u64::from(appended) - taken));
    }
}

#[derive(Clone, Copy, Debug)]
enum Transfer {
    Append,
    Take(u64),
    /// The peer has acknowledged all bytes in flight except this many.
    Arrive(u64),
    /// The connection is lost, with all bytes in flight.
    Lose,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A blocking reader loses no packet and receives none twice, for any order of acknowledgements and losses, and the
    /// kept packets stay within the limits.
    #[test]
    fn a_blocking_reader_loses_nothing(
        operations in prop::collection::vec(prop_oneof![
            3 => Just(Transfer::Append),
            3 => (0_u64..3000).prop_map(Transfer::Take),
            3 => (0_u64..3000).prop_map(Transfer::Arrive),
            1 => Just(Transfer::Lose),
        ], 1..120),
    ) {
        let headers = [header(300), header(400)];
        let buffer = limited_to(8);
        let mut reader = buffer.reader(StartPosition::Oldest, keeping_unacknowledged());
        reader.set_streaming(true);
        let (mut appended, mut arrived) = (0, Vec::new());
        let mut on_the_way = VecDeque::<(u32, u32)>::new();
        let all = [Transfer::Take(u64::MAX), Transfer::Arrive(0)].into_iter().cycle().take(40);
        for (step, operation) in operations.into_iter().chain(all).enumerate() {
            let bytes = |packets: &VecDeque<(u32, u32)>| packets.iter().map(|(_, size)| u64::from(*size)).sum::<u64>();
            match operation {
                Transfer::Append if !buffer.lock().is_writer_blocked() => {
                    append(&buffer, &headers[step % 2], appended..appended + 1);
                    appended += 1;
                }
                Transfer::Append => {}
                Transfer::Take(most) => {
                    if let Some(batch) = reader.take(most) {
                        on_the_way.extend(numbers(&batch).into_iter().zip(batch.sizes.iter().copied()));
                    }
                }
                Transfer::Arrive(outstanding) => {
                    reader.acknowledge(outstanding.min(bytes(&on_the_way)));
                    while bytes(&on_the_way) > outstanding
                        && let Some((number, size)) = on_the_way.pop_front()
                    {
                        // The last packet arrived partly, and is sent again if the connection is lost now.
                        if bytes(&on_the_way) < outstanding {
                            on_the_way.push_front((number, size));
                            break;
                        }
                        arrived.push(number);
                    }
                }
                Transfer::Lose => {
                    reader.rewind(bytes(&on_the_way));
                    on_the_way.clear();
                    reader.acknowledge(0);
                }
            }
            let Progress { received, taken, dropped, lag, .. } = reader.progress();
            prop_assert_eq!((dropped, taken + lag.packets), (0, received));
            prop_assert!(buffer.lock().ring.kept().0 <= 9);
        }
        prop_assert_eq!(arrived, (0..appended).collect::<Vec<_>>());
    }
}
