import Glibc
import LossdSocket
import LossdTensor
import LossdThreads
import Synchronization

/// Frames on their way to a socket, and the tensors behind them.
struct OutgoingFrames: Sendable {
  var bytes: [UInt8]
  /// Each begins at a multiple of 64 from the payload's start.
  var tensors: [Tensor] = []

  var byteCount: Int { bytes.count + tensors.reduce(0) { $0 + $1.byteCount } }
}

/// A thread that writes frames in order, many with one call, so that no task ever blocks in a
/// write.
final class FrameWriter: @unchecked Sendable {
  // `@unchecked Sendable`: `state` is touched with `lock` held only.
  private struct State {
    var queue: [(frames: OutgoingFrames, written: CheckedContinuation<Void, Never>?)] = []
    /// How many of them answer a frame of the server's.
    var answers = 0
    var isClosed = false
  }

  /// So many answers wait for a server that does not read.
  static let answersMax = 1024

  private let descriptor: Int32
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private var state = State()
  private static let zeros = AlignedBuffer.zeroed(count: 64)

  /// `onError` is called once, on the writer's thread, when a write fails.
  init(_ descriptor: Int32, onError: @escaping @Sendable (Int32) -> Void) {
    self.descriptor = descriptor
    lock = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(wake, nil)
    startThread { [self] in
      if let number = work() { onError(number) }
    }
  }

  deinit {
    pthread_mutex_destroy(lock)
    pthread_cond_destroy(wake)
    lock.deallocate()
    wake.deallocate()
  }

  /// Queues frames. Any thread.
  func send(_ frames: OutgoingFrames) { enqueue(frames, nil) }

  /// Queues frames and waits until they are written, or never will be: back-pressure for what is
  /// big.
  func sendAndWait(_ frames: OutgoingFrames) async {
    await withCheckedContinuation { enqueue(frames, $0) }
  }

  /// Queues the answer to a frame of the server's; false where `answersMax` are queued already.
  func sendAnswer(_ frames: OutgoingFrames) -> Bool {
    pthread_mutex_lock(lock)
    // Nothing is kept after the end.
    let hasRoom = state.answers < FrameWriter.answersMax || state.isClosed
    if hasRoom && !state.isClosed { state.answers += 1 }
    pthread_mutex_unlock(lock)
    if hasRoom { enqueue(frames, nil) }
    return hasRoom
  }

  private func enqueue(_ frames: OutgoingFrames, _ written: CheckedContinuation<Void, Never>?) {
    pthread_mutex_lock(lock)
    let isClosed = state.isClosed
    if !isClosed {
      state.queue.append((frames, written))
      pthread_cond_signal(wake)
    }
    pthread_mutex_unlock(lock)
    if isClosed { written?.resume() }
  }

  /// What is queued is dropped; the thread ends.
  func close() {
    pthread_mutex_lock(lock)
    state.isClosed = true
    let dropped = state.queue
    state.queue.removeAll()
    pthread_cond_signal(wake)
    pthread_mutex_unlock(lock)
    for item in dropped { item.written?.resume() }
  }

  /// Returns the error that ended it, nil after `close`.
  private func work() -> Int32? {
    while true {
      pthread_mutex_lock(lock)
      while state.queue.isEmpty && !state.isClosed { pthread_cond_wait(wake, lock) }
      let items = state.queue
      state.queue.removeAll()
      state.answers = 0
      let isClosed = state.isClosed
      pthread_mutex_unlock(lock)
      if isClosed {
        for item in items { item.written?.resume() }
        return nil
      }
      let failure = write(items.map(\.frames))
      for item in items { item.written?.resume() }
      if let failure {
        close()
        return failure
      }
    }
  }

  private func write(_ items: [OutgoingFrames]) -> Int32? {
    var vectors: [iovec] = []
    var failure: Int32?
    // Pointers into arrays stay valid while `withExtendedLifetime` holds the arrays; their bytes
    // are copied into one block, tensors are not copied.
    let headers = items.flatMap(\.bytes)
    headers.withUnsafeBytes { headers in
      var offset = 0
      for item in items {
        append(&vectors, headers.baseAddress, offset, item.bytes.count)
        offset += item.bytes.count
        var position = 0
        for tensor in item.tensors {
          let gap = (64 - position % 64) % 64
          append(&vectors, FrameWriter.zeros.base, 0, gap)
          append(&vectors, tensor.bytes.baseAddress, 0, tensor.byteCount)
          position += gap + tensor.byteCount
        }
      }
      failure = withExtendedLifetime(items) { drain(&vectors) }
    }
    return failure
  }

  private func append(
    _ vectors: inout [iovec], _ base: UnsafeRawPointer?, _ offset: Int, _ count: Int
  ) {
    guard count > 0, let base else { return }
    vectors.append(
      iovec(iov_base: UnsafeMutableRawPointer(mutating: base + offset), iov_len: count))
  }

  private func drain(_ vectors: inout [iovec]) -> Int32? {
    var first = 0
    while first < vectors.count {
      let outcome = vectors[first...].withUnsafeBufferPointer { LossdSocket.send(descriptor, $0) }
      switch outcome {
      case .bytes(var left):
        while left > 0 {
          let part = min(left, vectors[first].iov_len)
          vectors[first].iov_base += part
          vectors[first].iov_len -= part
          left -= part
          if vectors[first].iov_len == 0 { first += 1 }
        }
      case .wouldBlock:
        // Only on a descriptor that somebody made non-blocking.
        var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&wait, 1, -1)
      case .endOfFile: return EPIPE
      case .failed(let number): return number
      }
    }
    return nil
  }
}
