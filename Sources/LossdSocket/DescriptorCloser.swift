import CLinux
import Glibc

/// Closes descriptors that a peer has made, or sockets in which such ones may wait, on threads of
/// its own: close may take as long as the peer likes (SO_LINGER), or for ever (a file of its own
/// FUSE file system). Nobody has more than half of the threads, and who has as many descriptors
/// waiting as may be gives no more: see `hasRoom`. Any thread.
///
/// `@unchecked Sendable`: everything mutable is touched with `lock` held only.
public final class DescriptorCloser: @unchecked Sendable {
  public static let threadsMax = 8
  /// Descriptors that wait to be closed, before more are taken from who has some among them.
  public static let waitingMax = 1024
  private static let threadsPerOwner = threadsMax / 2

  private struct Owner {
    var waiting: [Int32] = []
    var threads = 0
  }

  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private var owners: [AnyHashable: Owner] = [:]
  /// Those that have something waiting, in turn.
  private var turn: [AnyHashable] = []
  private var waiting = 0
  private var threads = 0
  private var idleThreads = 0

  public init() {
    lock = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(wake, nil)
  }

  // Its threads keep it for ever: there is one in a process, and one in a test.

  /// Whether descriptors of this owner, up to 253 of them, may be taken now.
  public func hasRoom(for owner: AnyHashable) -> Bool {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    if owners[owner]?.waiting.isEmpty ?? true { return true }
    return waiting + Int(CLINUX_DESCRIPTORS_MAX) <= DescriptorCloser.waitingMax
  }

  /// Descriptors that wait and that are being closed.
  public var pending: Int {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return waiting + threads - idleThreads
  }

  /// Takes them over.
  public func close(_ descriptors: UnsafeBufferPointer<Int32>, of owner: AnyHashable) {
    if descriptors.isEmpty { return }
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    if owners[owner]?.waiting.isEmpty ?? true { turn.append(owner) }
    owners[owner, default: Owner()].waiting.append(contentsOf: descriptors)
    waiting += descriptors.count
    while threads < DescriptorCloser.threadsMax, idleThreads < waiting, startThread() {}
    pthread_cond_broadcast(wake)
  }

  public func close(_ descriptor: Int32, of owner: AnyHashable) {
    withUnsafePointer(to: descriptor) {
      close(UnsafeBufferPointer(start: $0, count: 1), of: owner)
    }
  }

  private func startThread() -> Bool {
    var thread = pthread_t()
    // Retained for the thread's life, which is the process's.
    let me = Unmanaged.passRetained(self)
    let code = pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        clinux_name_thread("lossd-closer")
        Unmanaged<DescriptorCloser>.fromOpaque(argument).takeUnretainedValue().work()
        return nil
      }, me.toOpaque())
    if code != 0 {
      me.release()
      return false
    }
    pthread_detach(thread)
    threads += 1
    idleThreads += 1
    return true
  }

  private func work() {
    pthread_mutex_lock(lock)
    while true {
      guard let (owner, descriptor) = next() else {
        pthread_cond_wait(wake, lock)
        continue
      }
      idleThreads -= 1
      pthread_mutex_unlock(lock)
      _ = Glibc.close(descriptor)
      pthread_mutex_lock(lock)
      idleThreads += 1
      owners[owner]?.threads -= 1
      if let state = owners[owner], state.threads == 0, state.waiting.isEmpty {
        owners[owner] = nil
      } else {
        // Another thread may have passed it by for having its threads.
        pthread_cond_signal(wake)
      }
    }
  }

  /// The next descriptor of the next owner that may have another thread.
  private func next() -> (AnyHashable, Int32)? {
    for (index, owner) in turn.enumerated() {
      guard var state = owners[owner], state.threads < DescriptorCloser.threadsPerOwner,
        let descriptor = state.waiting.popLast()
      else { continue }
      state.threads += 1
      owners[owner] = state
      waiting -= 1
      turn.remove(at: index)
      if !state.waiting.isEmpty { turn.append(owner) }
      return (owner, descriptor)
    }
    return nil
  }
}
