import CUV
import Glibc

/// Looks for events for some time before its loop sleeps, where they come close upon one another:
/// waking a thread takes tens of microseconds, longer than a small call. Where they are rare, it
/// lets the loop sleep at once, and a loop that has nothing to do costs nothing. Confined to the
/// loop's thread.
public final class BusyPoll {
  /// A look that took so long, nanoseconds, means that another thread was given the processor.
  private static let longLook: UInt64 = 50_000
  /// For so long, nanoseconds, the processor is then left to others.
  private static let pause: UInt64 = 10_000_000

  private let handle = Handle<uv_idle_t>()
  private let limit: UInt64
  private let now: () -> UInt64
  private(set) var isLooking = false
  /// The event before the last came close upon the one before it.
  private var isClose = false
  /// When the last turn with an event ended.
  private var lastEvent: UInt64 = 0
  private var lastLook: UInt64 = 0
  private var pauseEnd: UInt64 = 0
  private var hasEvent = false

  /// `limit`: nanoseconds to look for; `now`: a monotonic clock's.
  public init(_ loop: Loop, limit: UInt64, now: @escaping () -> UInt64) {
    self.limit = limit
    self.now = now
    uv_idle_init(loop.raw, handle.raw)
    handle.attach(self)
    handle.unreference()
  }

  /// Something came from outside in this turn.
  public func noteEvent() { hasEvent = true }

  /// The turn ends; `mayLook`: nothing else is under way that needs the processor.
  public func turnEnded(mayLook: () -> Bool) {
    guard limit > 0, hasEvent || isLooking else { return }
    let time = now()
    let isQuiet = !hasEvent
    if hasEvent {
      hasEvent = false
      isClose = time - lastEvent < 2 * limit
      lastEvent = time
    } else if time - lastLook > BusyPoll.longLook {
      pauseEnd = time + BusyPoll.pause
    }
    lastLook = time
    look(isClose && time - lastEvent < limit && time >= pauseEnd && mayLook())
    // The client may have been woken on this very processor, and would wait for all of the time.
    if isLooking && isQuiet { sched_yield() }
  }

  private func look(_ wanted: Bool) {
    if wanted == isLooking { return }
    handle.assertConfined()
    isLooking = wanted
    if wanted {
      uv_idle_start(handle.raw) { _ in }
    } else {
      uv_idle_stop(handle.raw)
    }
  }

  public func close() { handle.close() }
}
