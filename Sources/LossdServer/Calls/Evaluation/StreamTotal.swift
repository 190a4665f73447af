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

  /// Adds a computed batch; `merged`: the sums with the batch's, where a plugin has added them.
  mutating func add(_ evaluation: Evaluation, merged: Accumulator?) throws(StatusError) {
    if let merged {
      sums = merged
    } else {
      try sums.merge(evaluation.accumulator, evaluation.entry)
    }
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

/// The Summary of a stream, from its sums to the function's values. Confined to its loop's thread.
final class StreamSummary {
  var total = StreamTotal()
  /// A plugin computes the values.
  private var finishing: ForeignCall?

  var isUnderWay: Bool { finishing != nil }

  /// Asks a plugin that computes the values to stop.
  func stop(_ context: CallLoop) { if let finishing { context.foreign.stop(finishing) } }

  /// Computes the values of all batches' sums, and goes on with what went wrong; at once where no
  /// plugin does it.
  func compute(
    _ template: Evaluation, _ call: Call, _ context: CallLoop,
    then next: @escaping (StatusError?) -> Void
  ) {
    guard template.entry.isForeign, template.entry.valueCount > 0 else {
      var failure: StatusError?
      do throws(StatusError) { total.values = try template.summaryValues(total.sums) } catch {
        failure = error
      }
      return next(failure)
    }
    let foreign = ForeignCall(
      .finish(total.sums), template, call.group, deadline: call.deadline
    ) { [self] foreign in
      finishing = nil
      total.values = foreign.values
      next(foreign.error)
    }
    finishing = foreign
    context.foreign.start(foreign)
  }
}
