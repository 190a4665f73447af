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
  /// The kernels that have computed what it goes on from, by name.
  private var kernels: Set<String> = []
  /// Whether this daemon has computed a batch of it.
  private var hasOwn = false

  init() { sums = Accumulator() }
  init(_ entry: FunctionEntry) { sums = Accumulator(entry) }

  /// The sums that a Summary of the same function says, whose counts are added at once.
  ///
  /// INVALID_ARGUMENT where its sums are not those of the function; their values may be any.
  mutating func count(
    _ summary: SummaryMessage, _ entry: FunctionEntry
  ) throws(StatusError) -> Accumulator {
    let names = (0..<entry.accumulatorCount).map { String(cString: entry.accumulatorName($0)) }
    // A part without a batch may say nothing.
    var sums = Accumulator()
    if let whole = summary.whole {
      sums = try StreamTotal.sums(whole, names, entry)
      kernels.formUnion(whole.kernels.split(separator: ",").map(String.init))
      guard kernels.count <= StreamTotal.kernelCountMax else {
        throw StatusError(
          .invalidArgument,
          "\(entry.name): the Summaries to go on from name more than "
            + "\(StreamTotal.kernelCountMax) kernels")
      }
    } else if summary.batches > 0 {
      if let other = summary.state.keys.filter({ !names.contains($0) }).min() {
        let other = Array(other.utf8).withUnsafeBytes { displayText($0) }
        throw StatusError(
          .invalidArgument,
          "\(entry.name): a Summary to go on from has the sum `\(other)`, which is not "
            + "one of the function's")
      }
      var values: [Double] = []
      for name in names {
        guard let value = summary.state[name] else {
          throw StatusError(
            .invalidArgument,
            "\(entry.name): a Summary to go on from lacks the function's sum `\(name)`")
        }
        values.append(value)
      }
      sums =
        entry.mergesByItself
        ? Accumulator(own: values) : Accumulator(sums: values.map { ExactSum($0) })
    }
    batches = batches.addingSaturated(summary.batches)
    rows = rows.addingSaturated(summary.rows)
    return sums
  }

  /// The sums of a state, which says whose it is.
  private static func sums(
    _ state: StateMessage, _ names: [String], _ entry: FunctionEntry
  ) throws(StatusError) -> Accumulator {
    func refusal(_ text: String) -> StatusError {
      StatusError(.invalidArgument, "\(entry.name): a Summary to go on from \(text)")
    }
    func shown(_ text: String) -> String { Array(text.utf8).withUnsafeBytes { displayText($0) } }
    guard state.function == entry.name else {
      throw refusal("is of the function `\(shown(state.function))`")
    }
    guard !entry.mergesByItself else {
      throw refusal("has sums that the daemon merges, which this function does by itself")
    }
    guard state.kernels.utf8.count <= StreamTotal.kernelsMax,
      state.kernels.utf8.allSatisfy({ $0 > 32 && $0 < 127 })
    else { throw refusal("names kernels that cannot be") }
    var sums: [String: ExactSum] = [:]
    for sum in state.sums {
      guard names.contains(sum.name), sums[sum.name] == nil else {
        throw refusal(
          "has the sum `\(shown(sum.name))`, which is not one of the function's, or has it twice")
      }
      guard let exact = sum.exact.withUnsafeBytes({ ExactSum($0) }) else {
        throw refusal("has a sum `\(shown(sum.name))` of bytes that are none")
      }
      sums[sum.name] = exact
    }
    if let missing = names.first(where: { sums[$0] == nil }) {
      throw refusal("lacks the function's sum `\(missing)`")
    }
    return Accumulator(sums: names.compactMap { sums[$0] })
  }

  /// The longest text of kernels' names that is taken, and how many names there can be.
  private static let kernelsMax = 256
  private static let kernelCountMax = 16

  /// What it has added up, whole; nil of a function that merges by itself.
  private func whole(_ entry: FunctionEntry, kernels own: String) -> StateMessage? {
    if entry.mergesByItself { return nil }
    let kernels = hasOwn ? kernels.union([own]) : kernels
    return StateMessage(
      function: entry.name, kernels: kernels.sorted().joined(separator: ","),
      sums: sums.sums.enumerated().map { index, sum in
        StateMessage.Sum(name: String(cString: entry.accumulatorName(index)), exact: sum.bytes)
      })
  }

  /// Adds a computed batch; `merged`: the sums with the batch's, where a plugin has added them.
  mutating func add(_ evaluation: Evaluation, merged: Accumulator?) throws(StatusError) {
    hasOwn = true
    if let merged {
      sums = merged
    } else {
      try sums.merge(evaluation.progress.accumulator, evaluation.entry)
    }
    batches = batches.addingSaturated(1)
    rows = rows.addingSaturated(UInt64(max(evaluation.plan.rows, 0)))
  }

  /// Sends it as the response after those of the batches.
  ///
  /// `kernels`: the name of this daemon's.
  func respond(
    _ call: Call, _ entry: FunctionEntry, kernels: String, isLast: Bool
  ) throws(StatusError) {
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
        let summary = OutgoingSummary(
          batches: batches, rows: rows, values: named, state: state,
          whole: whole(entry, kernels: kernels))
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

/// The Summary of a stream, from the Summaries that it goes on from to the function's values.
/// Confined to its loop's thread.
final class StreamSummary {
  /// Summaries that a stream may go on from.
  static let partsMax = 256

  var total = StreamTotal()
  /// Sums that a plugin is to merge, the next one last.
  private var parts: [Accumulator] = []
  /// A plugin merges those, or computes the values.
  private var foreign: ForeignCall?

  var isUnderWay: Bool { foreign != nil }

  /// Asks a plugin that is at it to stop.
  func stop(_ context: CallLoop) { if let foreign { context.foreign.stop(foreign) } }

  /// Begins with what the first request's Summaries say; sums that a plugin merges come after, by
  /// `mergeParts`.
  func begin(
    _ entry: FunctionEntry, _ request: EvaluateRequestMessage?
  ) throws(StatusError) {
    total = StreamTotal(entry)
    parts = []
    guard let request, request.summaryCount > 0 else { return }
    if request.summaryCount > StreamSummary.partsMax {
      throw StatusError(
        .invalidArgument,
        "\(entry.name): a stream goes on from up to \(StreamSummary.partsMax) Summaries, the "
          + "request brings \(request.summaryCount)")
    }
    for index in 0..<request.summaryCount {
      let sums = try total.count(request.summary(index), entry)
      if entry.isForeign && entry.mergesByItself {
        if !sums.isEmpty { parts.append(sums) }
      } else {
        try total.sums.merge(sums, entry)
      }
    }
    parts.reverse()
  }

  /// Has the plugin merge what the stream goes on from, where there is something, and tells of the
  /// end, or of what went wrong.
  func mergeParts(
    _ template: Evaluation, _ call: Call, _ context: CallLoop,
    then next: @escaping (StatusError?) -> Void
  ) {
    guard let part = parts.popLast() else { return }
    start(.merge(into: total.sums, part), template, call, context) {
      [self, bound = Unretained(call)] merged in
      if let error = merged.error { return next(error) }
      total.sums = merged.total
      if parts.isEmpty { return next(nil) }
      mergeParts(template, bound.object, context, then: next)
    }
  }

  private func start(
    _ task: ForeignCall.Task, _ template: Evaluation, _ call: Call, _ context: CallLoop,
    then next: @escaping (ForeignCall) -> Void
  ) {
    let started = ForeignCall(
      task, template, call.group, deadline: call.deadline
    ) { [self] ended in
      foreign = nil
      next(ended)
    }
    foreign = started
    context.foreign.start(started)
  }

  /// Computes the values of all batches' sums, and goes on with what went wrong; at once where no
  /// plugin does it.
  func compute(
    _ template: Evaluation, _ call: Call, _ context: CallLoop,
    then next: @escaping (StatusError?) -> Void
  ) {
    guard template.entry.isForeign, template.entry.valueCount > 0 else {
      var failure: StatusError?
      do throws(StatusError) { total.values = try template.summaryValues(total.sums.values) } catch
      {
        failure = error
      }
      return next(failure)
    }
    start(.finish(total.sums), template, call, context) { [self] finished in
      total.values = finished.values
      next(finished.error)
    }
  }
}
