import Synchronization

/// The timeout of a stream, over all its legs, and who watches that the server of the last one
/// keeps it.
final class StreamTimer: Sendable {
  private let end: ContinuousClock.Instant?
  private let watcher = Mutex<Task<Void, Never>?>(nil)

  /// - Parameter timeout: seconds from now; nil: none.
  init(_ timeout: Double?) {
    guard let timeout, timeout < 1e9 else {
      end = nil
      return
    }
    end = ContinuousClock().now + .seconds(max(timeout, 0))
  }

  deinit { watch(nil) }

  /// Seconds, more than 0; nil: no limit.
  var timeLeft: Double? {
    end.map {
      let left = $0 - ContinuousClock().now
      let (seconds, attoseconds) = left.components
      return max(Double(seconds) + Double(attoseconds) / 1e18, 1e-6)
    }
  }

  /// This task watches from now on, and the last one no more; nil: none, since the stream is over.
  func watch(_ task: Task<Void, Never>?) {
    let last = watcher.withLock { watcher in
      defer { watcher = task }
      return watcher
    }
    last?.cancel()
  }
}
