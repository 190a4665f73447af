// LossdLoop: libuv's event loop as Swift types: a loop, descriptor watchers, a timer, signals, and
// work from other threads. It knows no socket call, no frame and no tensor; `uv_` ends here.
import CUV
import Glibc
import Synchronization

/// An event loop. Everything made on it is confined to the thread that runs it; `execute` alone may
/// be called from any thread.
///
/// `@unchecked Sendable`: what other threads touch is behind `inbox`'s lock and uv_async_send,
/// which libuv allows from any thread.
public final class Loop: @unchecked Sendable {
  public typealias Work = @Sendable () -> Void

  private struct Inbox {
    var work: [Work] = []
    var isClosed = false
  }

  /// The time for `execute`'s work in one turn of the loop, nanoseconds.
  private static let workTime: UInt64 = 1_000_000
  /// So much work is done between two looks at the clock.
  private static let workStep = 4
  /// Of a longer array the memory is not kept.
  private static let keptMax = 4096
  /// In the place of work that is done: an array lets go of each work at once.
  private static let nothing: Work = {}

  let raw: UnsafeMutablePointer<uv_loop_t>
  private let wakeup: UnsafeMutablePointer<uv_async_t>
  private let inbox = Mutex(Inbox())
  /// Work that the loop has taken out of the inbox, done up to `nextTaken`.
  private var taken: [Work] = []
  private var nextTaken = 0
  /// The thread that is in `run`, as a number; 0: none is.
  private let thread = Atomic<UInt>(0)

  public init() throws(LoopError) {
    raw = .allocate(capacity: 1)
    wakeup = .allocate(capacity: 1)
    var code = uv_loop_init(raw)
    if code == 0 {
      code = uv_async_init(raw, wakeup) { handle in
        guard let data = handle?.pointee.data else { return }
        // The loop outlives its handles: it closes them in deinit.
        Unmanaged<Loop>.fromOpaque(data).takeUnretainedValue().runInbox()
      }
    }
    if code != 0 { throw LoopError("make an event loop", code) }
    wakeup.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    // For `Handle.assertConfined`: a handle knows its uv_loop_t.
    raw.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    // The loop ends when nothing else is left.
    wakeup.withMemoryRebound(to: uv_handle_t.self, capacity: 1) { uv_unref($0) }
  }

  deinit {
    wakeup.withMemoryRebound(to: uv_handle_t.self, capacity: 1) { uv_close($0, nil) }
    while uv_run(raw, UV_RUN_NOWAIT) != 0 {}
    uv_loop_close(raw)
    wakeup.deallocate()
    raw.deallocate()
  }

  /// Runs until `stop`, or until no handle is left.
  public func run() {
    thread.store(UInt(pthread_self()), ordering: .relaxed)
    uv_run(raw, UV_RUN_DEFAULT)
    thread.store(0, ordering: .relaxed)
  }

  /// Whether the caller may use what is confined to the loop: it is the thread in `run`, or no
  /// thread is, as before the start and after the end.
  public var isConfined: Bool {
    let thread = thread.load(ordering: .relaxed)
    return thread == 0 || thread == UInt(pthread_self())
  }

  /// Ends a debug build where something that is confined to the loop is used on another thread. A
  /// release build does nothing here.
  @inlinable @inline(__always)
  public func assertConfined() {
    assert(isConfined, "what is confined to a loop's thread is used on another one")
  }

  /// Makes `run` return after this turn.
  public func stop() { uv_stop(raw) }

  /// Keeps `run` from returning while there is nothing but `execute` to wait for.
  public func keepAlive() {
    wakeup.withMemoryRebound(to: uv_handle_t.self, capacity: 1) { uv_ref($0) }
  }

  /// Runs `work` on the loop's thread soon, in the order of the calls. Any thread.
  public func execute(_ work: @escaping Work) {
    let isFirst = inbox.withLock { inbox in
      inbox.work.append(work)
      return inbox.work.count == 1
    }
    // Whoever finds the box empty wakes the loop; the others' work is taken with that one's.
    if isFirst { uv_async_send(wakeup) }
  }

  /// Thousands of calls may end at once, and connections need their turns in between: what is left
  /// after `workTime` waits for the next turn, in front of what comes meanwhile.
  private func runInbox() {
    let isRest = nextTaken < taken.count
    // Two arrays in turn, so that the steady state allocates nothing.
    if !isRest { inbox.withLock { swap(&$0.work, &taken) } }
    var untilLook = Loop.workStep
    // A short inbox costs no look at the clock.
    let begin = taken.count - nextTaken > untilLook ? uv_hrtime() : 0
    while nextTaken < taken.count {
      if untilLook == 0 {
        if uv_hrtime() - begin >= Loop.workTime {
          uv_async_send(wakeup)
          return
        }
        untilLook = Loop.workStep
      }
      untilLook -= 1
      let work = taken[nextTaken]
      taken[nextTaken] = Loop.nothing
      nextTaken += 1
      work()
    }
    taken.removeAll(keepingCapacity: taken.count <= Loop.keptMax)
    nextTaken = 0
    // What came meanwhile may have woken this turn and no other.
    if isRest { uv_async_send(wakeup) }
  }
}

/// libuv said no.
public struct LoopError: Error, Sendable, CustomStringConvertible {
  /// What was tried.
  public let operation: String
  /// Why, for people.
  public let text: String

  init(_ operation: String, _ code: Int32) {
    self.operation = operation
    text = String(cString: uv_strerror(code))
  }

  public var description: String { "\(operation): \(text)" }
}
