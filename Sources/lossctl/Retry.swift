import LossdTensor

/// Repeats what a crash or a restart of the daemon has ended: evaluations have no side effects.
struct Retry: Sendable {
  /// Seconds for which one thing is repeated after its first failure (--retry); nil: not at all.
  let seconds: Double?
  /// Seconds for everything (--timeout); nil: no limit.
  let timeout: Double?
  private let clock = ContinuousClock()
  private let start = ContinuousClock().now

  /// Seconds before something is tried again: at first, and at most.
  private static let (firstPause, longestPause) = (0.02, 1.0)

  init(seconds: Double?, timeout: Double?) {
    (self.seconds, self.timeout) = (seconds, timeout)
  }

  /// The time for repeating is over: for no outer repetition to catch.
  struct Over: Error {
    let error: StatusError
  }

  /// What is left of the timeout, more than 0 seconds; nil: no limit.
  var timeLeft: Double? {
    timeout.map { max($0 - Progress.seconds(clock.now - start), 1e-6) }
  }

  /// Calls `body` with what is left of the timeout until it no longer throws UNAVAILABLE.
  func repeating<Result>(_ body: (_ timeout: Double?) async throws -> Result) async throws -> Result
  {
    var firstFailure: ContinuousClock.Instant?
    var pause = Retry.firstPause
    while true {
      do { return try await body(timeLeft) } catch var error as StatusError {
        guard let seconds, error.code == .unavailable else { throw error }
        let now = clock.now
        let since = firstFailure ?? now
        firstFailure = since
        let away = Progress.seconds(now - since)
        if away >= seconds {
          error.message += " (--retry: begun again for \(fixed(seconds, 0)) s)"
          throw Over(error: error)
        }
        let left = timeLeft ?? .infinity
        if left <= 1e-6 {
          error = StatusError(
            .deadlineExceeded,
            "\(error.message) (--timeout: \(fixed(timeout ?? 0, 1)) s are over)")
          throw Over(error: error)
        }
        // Many clients shall not come back at the same moment.
        let wait = min(pause * Double.random(in: 0.5...1), seconds - away, left)
        pause = min(2 * pause, Retry.longestPause)
        try await Task.sleep(for: .seconds(wait))
      }
    }
  }
}
