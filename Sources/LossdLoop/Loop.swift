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

  let raw: UnsafeMutablePointer<uv_loop_t>
  private let wakeup: UnsafeMutablePointer<uv_async_t>
  private let inbox = Mutex(Inbox())
  private var spare: [Work] = []
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

  private func runInbox() {
    // Two arrays in turn, so that the steady state allocates nothing.
    inbox.withLock { swap(&$0.work, &spare) }
    for work in spare { work() }
    spare.removeAll(keepingCapacity: true)
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
