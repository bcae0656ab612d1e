//! Readers that follow another one.

use std::sync::atomic::Ordering;

use super::waits::Count;
use super::*;

/// A buffer of five packets, in which a key frame starts at 0, with a reader at its end and two that follow it.
fn led() -> (Arc<PacketBuffer>, Arc<Header>, Reader, [Reader; 2]) {
    let header = header(300);
    let buffer = limited_to(5);
    append(&buffer, &header, 0..1);
    let [lead, first, second] = [(); 3].map(|()| buffer.reader(StartPosition::Live, ReaderOptions::default()));
    assert!(lead.lead(&first.follower()) && lead.lead(&second.follower()));
    (buffer, header, lead, [first, second])
}

/// Takes the next packets for the lead and the two followers; returns their numbers, and which followers took them.
fn take(lead: &mut Reader, header: &Arc<Header>, followers: &[Reader; 2]) -> (Vec<u32>, Vec<bool>) {
    let followers = followers.each_ref().map(Reader::follower);
    let mut taken = vec![true; 9];
    let batch = lead.take_with(header, &followers, u64::MAX, &mut taken);
    batch.map(|batch| (numbers(&batch), taken)).unwrap_or_default()
}

#[test]
fn followers_take_what_their_lead_takes() {
    let (buffer, header, mut lead, readers) = led();
    append(&buffer, &header, 1..3);
    assert_eq!(take(&mut lead, &header, &readers), (vec![1, 2], vec![true, true]));
    append(&buffer, &header, 3..4);
    assert_eq!(take(&mut lead, &header, &readers), (vec![3], vec![true, true]));
    for reader in readers {
        let Progress { received, taken, lag, .. } = reader.progress();
        assert_eq!((received, taken, lag), (3, 3, Lag::default()));
    }
    let other = super::header(400);
    append(&buffer, &other, 4..5);
    assert_eq!(lead.take_with(&header, [], u64::MAX, &mut Vec::new()).map(|batch| numbers(&batch)), None);
}

#[test]
fn the_owner_of_a_follower_is_woken_only_at_the_end() {
    let (buffer, header, mut lead, readers) = led();
    let counts = [(); 2].map(|()| Arc::new(Count::default()));
    let is_ready = |index: usize| {
        let waker = Waker::from(Arc::clone(&counts[index]));
        pin!(readers[index].ready(1)).poll(&mut Context::from_waker(&waker)).is_ready()
    };
    let woken = || counts.each_ref().map(|count| count.0.load(Ordering::SeqCst));
    assert!(!is_ready(0) && !is_ready(1));
    append(&buffer, &header, 1..3);
    assert_eq!((woken(), is_ready(0)), ([0, 0], false));
    readers[0].monitor().end_at_head();
    assert_eq!((woken(), is_ready(0)), ([1, 0], true), "its own end");
    assert_eq!(take(&mut lead, &header, &readers), (vec![1, 2], vec![false, true]));
    buffer.end();
    assert_eq!((woken(), is_ready(1)), ([1, 1], true), "the end of the stream");
}

#[test]
fn a_released_follower_takes_packets_itself() {
    let (buffer, header, mut lead, mut readers) = led();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    assert!(pin!(readers[1].ready(1)).poll(&mut Context::from_waker(&waker)).is_pending());
    append(&buffer, &header, 1..2);
    readers[1].monitor().release();
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "its owner is woken");
    assert_eq!(take(&mut lead, &header, &readers), (vec![1], vec![true, false]));
    assert_eq!(take_all(&mut readers[1]), [1]);
    assert!(lead.lead(&readers[1].follower()), "it has caught up");
    append(&buffer, &header, 2..3);
    assert_eq!(take(&mut lead, &header, &readers), (vec![2], vec![true, true]));
}

#[test]
fn a_reader_that_needs_attention_does_not_follow() {
    let (buffer, header, mut lead, mut readers) = led();
    let other = unlimited().reader(StartPosition::Live, ReaderOptions::default());
    assert!(!lead.lead(&other.follower()), "it reads another buffer");
    let seeks = buffer.reader(StartPosition::NextKeyframe, ReaderOptions::default());
    assert!(!lead.lead(&seeks.follower()), "it waits for a key frame");
    let blocks = buffer.reader(StartPosition::Live, with_policy(DropPolicy::Block));
    assert!(!lead.lead(&blocks.follower()), "the writer waits for it");
    let behind = buffer.reader(StartPosition::Oldest, ReaderOptions::default());
    assert!(!lead.lead(&behind.follower()), "it is behind");
    // Packets that are dropped while nobody takes them are reported to the owners.
    append(&buffer, &header, 1..12);
    assert!(!lead.lead(&readers[0].follower()));
    let (_, taken) = take(&mut lead, &header, &readers);
    assert_eq!(taken, [false, false]);
    for reader in &mut readers {
        assert_eq!(reader.take(u64::MAX).map(|batch| (numbers(&batch), batch.skipped)), Some((vec![10, 11], 9)));
    }
}
