/// What a benchmark found out.
struct BenchReport {
  /// Processors used while it ran, of 1 each.
  struct Processors {
    var client: Double
    /// nil: the daemon is on another machine.
    var daemon: Double?
  }

  static let shares: [(name: String, share: Double)] = [
    ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999),
  ]
  /// A client that is busy so much may be what bounds the result.
  private static let busy = 0.9

  /// `cross_entropy of float32 1x10 at unix:/run/lossd/lossd.sock`.
  let title: String
  let plan: BenchPlan
  /// How long was measured, nanoseconds: shorter than planned where the daemon stayed away.
  let measured: UInt64
  /// The daemon was not there at the end.
  let isGone: Bool
  let callBytes: Int
  let tally: BenchTally
  let processors: Processors

  private var seconds: Double { Double(measured) / 1e9 }
  private var good: UInt64 { tally.latencies.count - tally.unanswered }
  var rate: Double { measured == 0 ? 0 : Double(good) / seconds }

  var text: String {
    var lines = [title]
    let pace =
      plan.rate > 0
      ? "\(fixed(plan.rate, 0)) calls a second begun, at most \(plan.depth) at once on each"
      : plan.depth == 1 ? "one call after the other" : "\(plan.depth) calls at once"
    lines.append(
      "\(plan.connections) connection\(plan.connections == 1 ? "" : "s"), \(pace), "
        + "\(fixed(seconds, 1)) s after \(fixed(Double(plan.warmUp) / 1e9, 1)) s of warm-up")
    lines.append(
      "calls        \(grouped(rate)) a second: \(good), failed \(tally.failed)"
        + (tally.unanswered > 0 ? ", without an answer \(tally.unanswered)" : ""))
    if let failure = tally.firstFailure { lines.append("             \(failure)") }
    if let loss = tally.firstLoss, tally.lost > 0 {
      lines.append(
        "connections  \(tally.lost) lost, without one for up to "
          + "\(fixed(Double(tally.away) / 1e9, 2)) s: \(loss)"
      )
    }
    let share = tally.latencies.count > 0 ? rate * Double(callBytes) / 1_048_576 : 0
    lines.append("bytes        \(callBytes) a call, \(fixed(share, 1)) MiB/s sent")
    let daemon = processors.daemon.map { ", daemon \(fixed($0, 2))" } ?? ""
    lines.append(
      "processors   lossctl \(fixed(processors.client, 2))\(daemon)"
        + (processors.client > BenchReport.busy * Double(plan.threads) && plan.rate == 0
          ? ": lossctl may be what bounds this" : ""))
    if tally.latencies.count > 0 {
      lines.append(
        "latency, us  "
          + BenchReport.shares.map { "\($0.name) \(microseconds($0.share))  " }.joined()
          + "max \(fixed(Double(tally.latencies.max) / 1000, 1))"
          + (plan.rate > 0 ? "  (from when a call was due)" : ""))
      lines.append(tally.latencies.text)
    }
    return lines.joined(separator: "\n")
  }

  var json: JSON {
    .object([
      ("title", .string(title)), ("connections", .int(plan.connections)),
      ("threads", .int(plan.threads)), ("depth", .int(plan.depth)),
      ("intended_rate", .number(plan.rate)), ("seconds", .number(seconds)),
      ("calls", .unsigned(good)), ("failed", .unsigned(tally.failed)),
      ("unanswered", .unsigned(tally.unanswered)), ("connections_lost", .unsigned(tally.lost)),
      ("seconds_away", .number(Double(tally.away) / 1e9)),
      ("first_failure", .string(tally.firstFailure.map { "\($0)" } ?? "")),
      ("rate", .number(rate)), ("call_bytes", .int(callBytes)),
      ("client_processors", .number(processors.client)),
      ("daemon_processors", .number(processors.daemon ?? .nan)),
      (
        "latency_us",
        .object(
          BenchReport.shares.map {
            ($0.name, .number(Double(tally.latencies.percentile($0.share)) / 1000))
          } + [
            ("max", .number(Double(tally.latencies.max) / 1000)),
            ("mean", .number(tally.latencies.mean / 1000)),
          ])
      ),
      (
        "histogram_us",
        .list(
          tally.latencies.filled.map {
            .list([.number(Double($0.upTo) / 1000), .unsigned($0.count)])
          })
      ),
    ])
  }

  private func microseconds(_ share: Double) -> String {
    fixed(Double(tally.latencies.percentile(share)) / 1000, 1)
  }

  /// `123,456`; small numbers with a digit or two behind the point.
  private func grouped(_ value: Double) -> String {
    if value < 100 { return fixed(value, 2) }
    var text = fixed(value, 0)
    var index = text.count - 3
    while index > 0 {
      text.insert(",", at: text.index(text.startIndex, offsetBy: index))
      index -= 3
    }
    return text
  }
}
