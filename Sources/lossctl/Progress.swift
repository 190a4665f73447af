import Glibc

/// A line on the terminal that says how far it is; silent when standard error is none.
struct Progress {
  private let rows: Int
  private let isTerminal = isatty(STDERR_FILENO) == 1
  private let clock = ContinuousClock()
  private let start: ContinuousClock.Instant
  private var lastShown: ContinuousClock.Instant
  private var lossSum = 0.0
  private var lossCount = 0

  init(rows: Int) {
    self.rows = rows
    start = clock.now
    lastShown = start
  }

  /// `loss` is the batch's own; the running one is the mean of those that are numbers.
  mutating func advance(to done: Int, loss: Double?) {
    if let loss, loss.isFinite {
      lossSum += loss
      lossCount += 1
    }
    guard isTerminal else { return }
    let now = clock.now
    if now - lastShown < .milliseconds(100) && done < rows { return }
    lastShown = now
    let seconds = max(Progress.seconds(now - start), 1e-9)
    let rate = Double(done) / seconds
    let left = rate > 0 ? Double(rows - done) / rate : 0
    let width = 20
    let filled = rows > 0 ? done * width / rows : width
    var line =
      "\r[" + String(repeating: "#", count: filled)
      + String(repeating: " ", count: width - filled) + "] \(done)/\(rows) rows, "
      + "\(fixed(rate, 0)) rows/s"
    if lossCount > 0 { line += ", loss \(fixed(lossSum / Double(lossCount), 4))" }
    line += ", \(fixed(left, 0)) s left  "
    line.withCString { _ = write(STDERR_FILENO, $0, strlen($0)) }
  }

  mutating func end() {
    if isTerminal { "\n".withCString { _ = write(STDERR_FILENO, $0, 1) } }
  }

  static func seconds(_ duration: Duration) -> Double {
    Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18
  }
}
