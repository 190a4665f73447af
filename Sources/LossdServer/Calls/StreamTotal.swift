import LossdEngine
import LossdTensor
import LossdWire

/// What a stream's batches add up to, which its Summary says.
struct StreamTotal {
  var sums: Accumulator
  /// The function's values of all batches, once they have been computed; nil: one that does not
  /// exist.
  var values: [Double?] = []
  private(set) var batches: UInt64 = 0
  private(set) var rows: UInt64 = 0

  init() { sums = Accumulator(fields: 0) }
  init(_ entry: FunctionEntry) { sums = Accumulator(fields: entry.accumulatorCount) }

  /// Adds a computed batch; `isMerged`: its sums are among these already.
  mutating func add(_ evaluation: Evaluation, isMerged: Bool) throws(StatusError) {
    if !isMerged { try sums.merge(evaluation.accumulator, evaluation.entry) }
    batches = batches.addingSaturated(1)
    rows = rows.addingSaturated(UInt64(max(evaluation.rows, 0)))
  }

  /// Sends it as the response after those of the batches.
  func respond(_ call: Call, _ entry: FunctionEntry, isLast: Bool) throws(StatusError) {
    var named: [NamedValue] = []
    for (index, value) in values.enumerated() where index < entry.valueCount {
      guard let value else { continue }
      named.append(NamedValue(name: cStringBytes(entry.valueName(index)), value: value))
    }
    let state = sums.values.enumerated().map { index, value in
      NamedValue(name: cStringBytes(entry.accumulatorName(index)), value: value)
    }
    var failure: StatusError?
    named.withUnsafeBufferPointer { named in
      state.withUnsafeBufferPointer { state in
        let summary = OutgoingSummary(batches: batches, rows: rows, values: named, state: state)
        let response = OutgoingResponse(
          id: 0, outputs: UnsafeBufferPointer(start: nil, count: 0), summary: summary)
        do throws(StatusError) {
          try call.respond(response, encoded: nil, results: ResultBytes(), isLast: isLast)
        } catch { failure = error }
      }
    }
    if let failure { throw failure }
  }
}
