//! What several workers and clients may do to a store, at random.

use proptest::prelude::*;
use secateur::domain::job::scheduling::{DeviceKind, Scheduling};
use secateur::domain::worker::Device;

use super::super::*;

/// What somebody does. Indices count from the newest, modulo what there is.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Insert {
        delay_seconds: i64,
        deadline_seconds: Option<u64>,
        wants: Scheduling,
    },
    Claim {
        worker: u8,
        device: Device,
    },
    Announce {
        worker: u8,
    },
    Drain {
        worker: u8,
        draining: bool,
    },
    Pause {
        paused: bool,
    },
    Check(Holder),
    Heartbeat(Holder),
    Report(Holder, u8),
    Finish(Holder, End),
    Ask {
        job: usize,
        action: Action,
        is_stale: bool,
    },
    FailOverdue,
    Sweep,
    Advance {
        seconds: i64,
    },
    List {
        state: usize,
        before: usize,
        limit: u32,
    },
}

/// Whose lease is used: any that was ever given, or one that never was.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) lease: usize,
    pub(super) forged: Forged,
}

#[derive(Debug, Clone)]
pub(super) enum Forged {
    No,
    Owner,
    Attempt,
}

#[derive(Debug, Clone)]
pub(super) enum End {
    Succeeded,
    Failed { crashed: bool },
    Retry { crashed: bool, delay: u64 },
    Cancelled,
    Paused,
    Released,
}

fn holder() -> impl Strategy<Value = Holder> {
    // Mostly one of the newest, who hold something still.
    let lease = prop_oneof![4 => 0..3_usize, 1 => 0..30_usize];
    let forged =
        prop_oneof![8 => Just(Forged::No), 1 => Just(Forged::Owner), 1 => Just(Forged::Attempt)];
    (lease, forged).prop_map(|(lease, forged)| Holder { lease, forged })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        2 => Just(End::Succeeded),
        1 => any::<bool>().prop_map(|crashed| End::Failed { crashed }),
        4 => (any::<bool>(), 0..30_u64).prop_map(|(crashed, delay)| End::Retry { crashed, delay }),
        1 => Just(End::Cancelled),
        1 => Just(End::Paused),
        2 => Just(End::Released),
    ]
}

fn wants() -> impl Strategy<Value = Scheduling> {
    let kinds = [None, None, Some(DeviceKind::Cpu), Some(DeviceKind::Cuda)];
    let device_kind = prop::sample::select(kinds.to_vec());
    let memory_bytes = prop::sample::select(vec![None, Some(1), Some(3), Some(9)]);
    let submitter = prop::sample::select(vec!["", "a", "b"]);
    (-1..2_i32, submitter, device_kind, memory_bytes).prop_map(
        |(priority, submitter, device_kind, memory_bytes)| Scheduling {
            priority,
            submitter: submitter.to_owned(),
            device_kind,
            memory_bytes,
            ..Scheduling::default()
        },
    )
}

fn device() -> impl Strategy<Value = Device> {
    let kind = prop::sample::select(vec![DeviceKind::Cpu, DeviceKind::Cuda]);
    let memory_bytes = prop::sample::select(vec![None, Some(4), Some(16)]);
    (kind, memory_bytes).prop_map(|(kind, memory_bytes)| Device {
        name: kind.as_str().to_owned(),
        kind,
        memory_bytes,
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        1 => Just(Action::Cancel),
        3 => Just(Action::Pause),
        3 => Just(Action::Resume),
        2 => Just(Action::Retry),
        1 => Just(Action::Delete),
    ]
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => (
            prop_oneof![3 => Just(0), 1 => 1..60_i64],
            prop_oneof![3 => Just(None), 1 => (1..300_u64).prop_map(Some)],
            wants(),
        )
            .prop_map(|(delay_seconds, deadline_seconds, wants)| Operation::Insert { delay_seconds, deadline_seconds, wants }),
        5 => (0..4_u8, device()).prop_map(|(worker, device)| Operation::Claim { worker, device }),
        1 => (0..4_u8).prop_map(|worker| Operation::Announce { worker }),
        1 => (0..4_u8, prop::bool::weighted(0.3))
            .prop_map(|(worker, draining)| Operation::Drain { worker, draining }),
        1 => prop::bool::weighted(0.3).prop_map(|paused| Operation::Pause { paused }),
        1 => holder().prop_map(Operation::Check),
        2 => holder().prop_map(Operation::Heartbeat),
        3 => (holder(), any::<u8>()).prop_map(|(holder, what)| Operation::Report(holder, what)),
        4 => (holder(), end()).prop_map(|(holder, end)| Operation::Finish(holder, end)),
        4 => (0..8_usize, action(), prop::bool::weighted(0.1))
            .prop_map(|(job, action, is_stale)| Operation::Ask { job, action, is_stale }),
        1 => Just(Operation::FailOverdue),
        2 => Just(Operation::Sweep),
        3 => prop_oneof![3 => 0..60_i64, 1 => 200..400_i64]
            .prop_map(|seconds| Operation::Advance { seconds }),
        1 => (0..9_usize, 0..8_usize, 1..5_u32)
            .prop_map(|(state, before, limit)| Operation::List { state, before, limit }),
    ]
}
