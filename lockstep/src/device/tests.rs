use super::*;

fn inputs(queue: &Arc<InputQueue>) -> Inputs {
    Inputs::new(DeviceId(3), Arc::clone(queue) as Arc<dyn Intake>)
}

fn poll_once(inputs: &Inputs, slot: &mut Option<Bytes>) -> Poll<Result<(), Refused>> {
    inputs.poll_push(&mut Context::from_waker(Waker::noop()), slot)
}

#[test]
fn a_full_queue_gives_the_input_back_and_takes_it_later() {
    let queue = InputQueue::new(1);
    let inputs = inputs(&queue);
    inputs.try_push(Bytes::from_static(b"one")).unwrap();
    let mut slot = Some(Bytes::from_static(b"two"));
    assert!(poll_once(&inputs, &mut slot).is_pending());
    assert_eq!(slot.as_deref(), Some(b"two".as_slice()));
    assert_eq!(queue.pop(), Some((DeviceId(3), Bytes::from_static(b"one"))));
    assert_eq!(poll_once(&inputs, &mut slot), Poll::Ready(Ok(())));
    assert_eq!(slot, None);
    assert_eq!(queue.pop(), Some((DeviceId(3), Bytes::from_static(b"two"))));
}

#[test]
fn an_oversize_input_is_refused_with_its_length() {
    let inputs = inputs(&InputQueue::new(8));
    let len = limits::INPUT_BYTES + 1;
    assert_eq!(inputs.try_push(Bytes::from(vec![0; len])), Err(Refused::TooLong { len }));
    inputs.try_push(Bytes::from(vec![0; len - 1])).unwrap();
}

#[test]
fn a_blocked_thread_goes_on_when_there_is_room_or_the_queue_closes() {
    let queue = InputQueue::new(1);
    let inputs = inputs(&queue);
    inputs.try_push(Bytes::from_static(b"first")).unwrap();
    std::thread::scope(|scope| {
        let pushed = scope.spawn(|| inputs.push_blocking(Bytes::from_static(b"second"), None));
        while queue.pop().is_none() {}
        pushed.join().unwrap().unwrap();
        let refused = scope.spawn(|| inputs.push_blocking(Bytes::from_static(b"third"), None));
        queue.close();
        assert_eq!(refused.join().unwrap(), Err(Refused::Closed));
    });
    assert_eq!(queue.pop().unwrap().1, "second");
}

#[test]
fn a_blocked_thread_gives_up_at_its_deadline_and_keeps_the_input() {
    let queue = InputQueue::new(1);
    let inputs = inputs(&queue);
    inputs.try_push(Bytes::from_static(b"first")).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the deadline of a thread")]
    let deadline = Instant::now() + core::time::Duration::from_millis(5);
    let kept = Bytes::from_static(b"second");
    let refused = inputs.push_blocking(kept.clone(), Some(deadline));
    assert_eq!(refused, Err(Refused::Full(kept)));
}

#[test]
fn a_table_numbers_its_devices_in_order_and_its_digest_sees_every_difference() {
    let mut table = DeviceTable::new();
    assert_eq!(table.add("tcp", OutputClass::CarrierBound), Ok(DeviceId(0)));
    let one = table.digest();
    assert_eq!(table.add("printer", OutputClass::Completed), Ok(DeviceId(1)));
    assert_ne!(table.digest(), one);
    let mut other = DeviceTable::new();
    other.add("tcp", OutputClass::CarrierBound).unwrap();
    other.add("printer", OutputClass::Repeatable).unwrap();
    assert_ne!(table.digest(), other.digest());
    assert_eq!(table.find("printer"), Some(DeviceId(1)));
    assert_eq!(table.add("tcp", OutputClass::Repeatable), Err(TableError::Twice("tcp".into())));
    assert!(matches!(table.add("", OutputClass::Repeatable), Err(TableError::Name(_))));
}
