import LossdEngine
import LossdLoop
import LossdTensor

/// Carries an object that is confined to a loop's thread through a closure to that thread.
///
/// `@unchecked Sendable`: the value is used on the loop's thread alone; others only hold it.
struct LoopBound<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}

/// What everything on one loop shares: its limits, its accounts, its clock. Confined to the loop's
/// thread, but for what is Sendable itself.
///
/// `@unchecked Sendable`: others than the loop's thread use its constants only.
class LoopContext: @unchecked Sendable {
  let loop: Loop
  let pool: BufferPool
  /// As they are now; a channel keeps those that it began with where its client was told them.
  var limits: ServerLimits
  /// nil: none is kept.
  var accessLog: AccessLog?
  let metrics = Metrics()
  /// The daemon's own, for the status.
  let daemon: DaemonState
  let deadlines: DeadlineQueue
  /// Calls and payloads that wait for memory.
  let waits: WaitQueue

  init(_ loop: Loop, _ daemon: DaemonState, _ limits: ServerLimits) {
    self.loop = loop
    self.daemon = daemon
    pool = daemon.pool
    self.limits = limits
    deadlines = DeadlineQueue(loop)
    waits = WaitQueue(deadlines, daemon)
  }

  /// Memory of a budget has been released that somebody may wait for.
  func memoryReleased(_ budget: MemoryBudget) {
    budget.takeRelease()
    waits.released(budget)
  }

  /// Somebody waits for memory, here or on another loop: from now on calls that hold memory and do
  /// not get on are looked for.
  func beginInspections() { preconditionFailure("a server's loop's") }

  /// What a call is told that has waited for memory for too long; `reason`: where there was no
  /// room.
  func memoryTimedOut(_ what: String, _ reason: String) -> StatusError {
    StatusError(
      .resourceExhausted,
      "no memory for \(what) within \(limits.waitTimeout / 1_000_000) ms (limits.wait_timeout): "
        + "\(reason)"
    )
  }
}
