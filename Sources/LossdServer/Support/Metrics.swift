import LossdTensor
import LossdWire
import Synchronization

/// What a daemon counts. Each loop has its own, so that its lock is never waited for but while a status
/// is made.
final class Metrics: Sendable {
  struct Function: Sendable {
    var codes: [StatusCode: UInt64] = [:]
    var latency = Histogram()
  }

  struct Counts: Sendable {
    var accepted: UInt64 = 0
    var open: UInt64 = 0
    var callsInFlight: UInt64 = 0
    var received: UInt64 = 0
    var sent: UInt64 = 0
    var rows: UInt64 = 0
    /// By function, of both evaluating methods.
    var functions: [String: Function] = [:]
    /// By method, of calls that reached no function.
    var methods: [String: [StatusCode: UInt64]] = [:]
  }

  private let counts = Mutex(Counts())

  func update(_ change: (inout Counts) -> Void) { counts.withLock { change(&$0) } }
  var snapshot: Counts { counts.withLock { $0 } }

  /// A call of a function ended; `nanoseconds` from its last byte to its response queued.
  func functionEnded(_ name: String, _ code: StatusCode, nanoseconds: UInt64, rows: Int) {
    counts.withLock { counts in
      counts.functions[name, default: Function()].codes[code, default: 0] += 1
      counts.functions[name, default: Function()].latency.add(nanoseconds)
      counts.rows += UInt64(rows)
    }
  }

  func methodEnded(_ method: Method, _ code: StatusCode) {
    counts.withLock { $0.methods[method.name, default: [:]][code, default: 0] += 1 }
  }
}

extension Metrics.Counts {
  mutating func add(_ other: Metrics.Counts) {
    accepted += other.accepted
    open += other.open
    callsInFlight += other.callsInFlight
    received += other.received
    sent += other.sent
    rows += other.rows
    for (name, function) in other.functions {
      functions[name, default: .init()].latency.add(function.latency)
      for (code, count) in function.codes {
        functions[name, default: .init()].codes[code, default: 0] += count
      }
    }
    for (name, codes) in other.methods {
      for (code, count) in codes { methods[name, default: [:]][code, default: 0] += count }
    }
  }
}
