import ArgumentParser
import Glibc
import LossdThreads
import Synchronization

/// How long a daemon may take to answer.
struct AnswerLimit: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Give up after so many seconds without an answer, with status 69.", valueName: "seconds"))
  var timeout = 5.0

  mutating func validate() throws {
    guard timeout > 0 else {
      throw ValidationError("--timeout is \(timeout), expected more than 0 seconds")
    }
  }

  /// Runs `body`; where the daemon has not answered in time, the program ends. The way there may be
  /// blocked anywhere: a stopped daemon, or a socket whose service cannot start, accepts
  /// connections and says nothing.
  func whileWaiting<Result>(
    for address: some CustomStringConvertible, _ body: () async throws -> Result
  ) async throws -> Result {
    let answered = Answered()
    let (seconds, text) = (timeout, "\(address)")
    if seconds < 1e9 {
      startThread {
        let clock = ContinuousClock()
        let end = clock.now + .seconds(seconds)
        while clock.now < end {
          if answered.isSet.load(ordering: .relaxed) { return }
          usleep(10_000)
        }
        if answered.isSet.exchange(true, ordering: .relaxed) { return }
        fflush(nil)
        printError("lossctl: UNAVAILABLE: \(text): no answer within \(seconds) s (--timeout)")
        _exit(69)
      }
    }
    defer { answered.isSet.store(true, ordering: .relaxed) }
    return try await body()
  }

  private final class Answered: Sendable {
    let isSet = Atomic(false)
  }
}
