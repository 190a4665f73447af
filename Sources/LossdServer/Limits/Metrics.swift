import LossdTensor
import LossdWire
import Synchronization

/// What a daemon counts. Each loop has its own counts, so a loop waits for the lock only while a
/// status is made.
final class Metrics: Sendable {
  struct Function: Sendable {
    /// Calls by status code.
    var codes = [UInt64](repeating: 0, count: StatusCode.allCases.count)
    var rows: UInt64 = 0
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
    /// Calls that reached no function, by method.
    var methods: [String: [StatusCode: UInt64]] = [:]
  }

  private let counts = Mutex(Counts())
  private let callsInFlight = Atomic<UInt64>(0)
  private let counters = Mutex<[String: FunctionCounter]>([:])

  func update(_ change: (inout Counts) -> Void) { counts.withLock { change(&$0) } }

  /// Without the lock, since calls come and go too often for it. The loop's thread alone calls
  /// these two.
  func callBegan() {
    callsInFlight.store(callsInFlight.load(ordering: .relaxed) + 1, ordering: .relaxed)
  }

  func callEnded() {
    callsInFlight.store(callsInFlight.load(ordering: .relaxed) - 1, ordering: .relaxed)
  }

  var snapshot: Counts {
    var counts = counts.withLock { $0 }
    counts.callsInFlight = callsInFlight.load(ordering: .relaxed)
    for (name, counter) in counters.withLock({ $0 }) {
      let function = counter.snapshot
      counts.rows = counts.rows.addingSaturated(function.rows)
      counts.functions[name] = function
    }
    return counts
  }

  /// The counter of a function on this loop.
  func counter(_ name: String) -> FunctionCounter {
    counters.withLock { counters in
      if let counter = counters[name] { return counter }
      let counter = FunctionCounter()
      counters[name] = counter
      return counter
    }
  }

  /// A call of the method with this path has ended that reached no function.
  func methodEnded(_ path: StaticString, _ code: StatusCode) {
    counts.withLock { $0.methods["\(path)", default: [:]][code, default: 0] += 1 }
  }
}

/// Counts the calls of one function on one loop. The loop waits for the lock only while a status is
/// made.
final class FunctionCounter: Sendable {
  private let function = Mutex(Metrics.Function())

  /// A call ended. `nanoseconds`: from the request's last byte to the queued response.
  func ended(_ code: StatusCode, nanoseconds: UInt64, rows: Int) {
    function.withLock { function in
      function.codes[Int(code.rawValue)] += 1
      function.latency.add(nanoseconds)
      // A tensor without elements may claim any number of rows.
      function.rows = function.rows.addingSaturated(UInt64(max(rows, 0)))
    }
  }

  var snapshot: Metrics.Function { function.withLock { $0 } }
}

extension Metrics.Counts {
  mutating func add(_ other: Metrics.Counts) {
    accepted += other.accepted
    open += other.open
    callsInFlight += other.callsInFlight
    received = received.addingSaturated(other.received)
    sent = sent.addingSaturated(other.sent)
    rows = rows.addingSaturated(other.rows)
    for (name, function) in other.functions {
      functions[name, default: .init()].latency.add(function.latency)
      for (code, count) in function.codes.enumerated() {
        functions[name, default: .init()].codes[code] += count
      }
    }
    for (name, codes) in other.methods {
      for (code, count) in codes { methods[name, default: [:]][code, default: 0] += count }
    }
  }
}

extension FixedWidthInteger {
  /// The sum, or the largest number where the sum overflows: for counts whose size clients choose.
  func addingSaturated(_ other: Self) -> Self {
    let (sum, isOver) = addingReportingOverflow(other)
    return isOver ? (other < 0 ? .min : .max) : sum
  }
}
