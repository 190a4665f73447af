import Glibc
import LossdClient
import LossdFiles
import LossdTensor
import LossdWire
import Synchronization

/// Evaluates tensors of files in batches of rows: one task reads and sends, another takes the
/// results. A mean's gradients take two passes over the files: the first for what the mean divides
/// by.
struct BatchedEvaluation {
  typealias Batch = [(name: String, tensor: Tensor)]

  /// A batch's bytes when the user names no size.
  private static let batchBytes = 16 << 20

  let client: Client
  let description: FunctionDescription
  let rule: BatchRule
  let options: EvaluationOptions
  let saves: [(name: String, value: String)]
  /// Rows a batch, the last one's perhaps fewer.
  let batchSize: Int
  let retry: Retry

  /// What a data set came to.
  struct Outcome {
    var summary: SummaryMessage
    var saved: [(name: String, value: String)]

    var text: String {
      var lines = summary.values.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
      lines.append("rows: \(summary.rows) in \(summary.batches) batches")
      lines += summary.state.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
      lines += saved.map { "\($0.name): written to \($0.value)" }
      return lines.joined(separator: "\n")
    }

    func json(_ function: String) -> JSON {
      func numbers(_ values: [String: Double]) -> JSON {
        .object(values.sorted { $0.key < $1.key }.map { ($0.key, .number($0.value)) })
      }
      return .object([
        ("function", .string(function)), ("batches", .unsigned(summary.batches)),
        ("rows", .unsigned(summary.rows)), ("values", numbers(summary.values)),
        ("state", numbers(summary.state)),
        ("files", .object(saved.map { ($0.name, .string($0.value)) })),
      ])
    }
  }

  /// RESOURCE_EXHAUSTED where a batch, a row or what stays is more than the daemon takes at once:
  /// `payloadBytesMax` bytes. `batchSize`: the user's.
  init(
    client: Client, description: FunctionDescription, rule: BatchRule,
    options: EvaluationOptions, saves: [(name: String, value: String)], batchSize: Int?,
    payloadBytesMax: Int, retry: Retry
  ) throws(StatusError) {
    self.retry = retry
    (self.client, self.description, self.rule) = (client, description, rule)
    (self.options, self.saves) = (options, saves)
    func tooMuch(_ what: String, _ bytes: Int, _ more: String = "") -> StatusError {
      StatusError(
        .resourceExhausted,
        "\(description.name): \(what) takes \(bytes) bytes, the daemon takes payloads of up to "
          + "\(payloadBytesMax) (limits.payload_bytes)\(more)")
    }
    if rule.keptBytes > payloadBytesMax {
      throw tooMuch(
        rule.kept.map(\.name).joined(separator: " and ") + ", sent whole,", rule.keptBytes)
    }
    let most = rule.rowsMax(bytes: payloadBytesMax)
    guard most > 0 else {
      let whole = rule.whole.map(\.name).joined(separator: " and ")
      throw tooMuch(
        whole.isEmpty ? "one row" : "one row with all of \(whole)", rule.payloadBytes(rows: 1))
    }
    if let batchSize {
      self.batchSize = min(batchSize, rule.rows)
      if self.batchSize > most {
        throw tooMuch(
          "a batch of \(self.batchSize) rows", rule.payloadBytes(rows: self.batchSize),
          ": --batch-size can be \(most) at most")
      }
    } else {
      self.batchSize = max(
        rule.rowsMax(bytes: min(BatchedEvaluation.batchBytes, payloadBytesMax)), 1)
    }
  }

  var function: String { description.name }

  func run() async throws -> Outcome {
    // Nothing is wanted of the whole data set along with these.
    let placed =
      rule.mean != nil
      ? rule.outputs.filter(BatchRule.isGradient)
      : description.kind == "activation" ? rule.outputs : []
    // What a plugin's function adds up, and what its results are like, it says itself.
    let results =
      description.isBuiltIn ? BatchRule.placed(placed, of: rule.cut, options.attributes) : []
    let memory = try await BatchMemory(client, rule, batchSize: batchSize, results: results, retry)
    defer { memory?.release() }
    guard let mean = rule.mean else {
      let results = try await pass(rule.outputs, options, rule.whole, memory)
      try results.finish()
      return Outcome(summary: results.summary, saved: saves)
    }
    // First what is not a gradient, and with it the sum of the weights; without any the loss, for
    // the checks.
    let values = rule.outputs.filter { !BatchRule.isGradient($0) }
    let first = try await pass(values, options, rule.whole, memory)
    guard let weights = first.summary.state["weight_sum"] else {
      throw Complaint("the daemon's summary has no weight_sum, which a mean's gradients need")
    }
    let given = rule.whole.first { $0.name == mean.upstream }?.stored.tensor().scalar ?? 1
    let upstream = (name: mean.upstream, tensor: Tensor([given / weights], shape: []))
    var options = options
    options.attributes[mean.reduction] = .string("sum")
    let second = try await pass(
      placed, options, rule.whole.filter { $0.name != mean.upstream }, memory, others: [upstream])
    try second.finish()
    try first.finish()
    return Outcome(summary: first.summary, saved: saves)
  }

  /// One pass over the files, with `whole` and `others` along with each batch. Where all results
  /// have places in shared memory each batch is a call of its own, since a stream's come by the
  /// socket; and with --retry, so that it is repeated alone.
  private func pass(
    _ outputs: [String], _ options: EvaluationOptions, _ whole: [BatchRule.Input],
    _ memory: BatchMemory?, others: Batch = []
  ) async throws -> BatchResults {
    var options = options
    options.outputs = outputs
    options.timeout = retry.timeLeft
    let arePlaced = memory.map { !outputs.isEmpty && outputs.allSatisfy($0.hasPlace) } ?? false
    if arePlaced || retry.seconds != nil {
      let results = BatchResults(saves, rows: rule.rows)
      let inputs = WholeInputs(client, retry, whole + rule.kept, others: others)
      let calls = BatchCalls(
        evaluation: self, options: options, memory: memory, arePlaced: arePlaced, whole: inputs,
        results: results)
      let work = Task { try await calls.run() }
      let interrupt = Interrupt { work.cancel() }
      defer { interrupt.end() }
      do {
        try await work.value
        return results
      } catch { throw told(error, interrupt, nil) }
    }
    let results = BatchResults(saves, rows: rule.rows)
    let inputs = try await WholeInputs(client, retry, whole, others: others).tensors()
    try await stream(memory, options, inputs, results)
    return results
  }

  /// Rows of a batch; nil beyond the last.
  func range(ofBatch index: Int) -> Range<Int>? {
    let (begin, overflow) = index.multipliedReportingOverflow(by: batchSize)
    if overflow || begin >= rule.rows { return nil }
    return begin..<begin + min(batchSize, rule.rows - begin)
  }

  /// What went wrong, as the user is told.
  private func told(
    _ error: any Error, _ interrupt: Interrupt, _ cause: (any Error)?
  ) -> any Error {
    if interrupt.wasRaised { return Complaint("interrupted", status: 130) }
    if let cause { return cause }
    return (error as? StatusError).map { inTheFilesRows($0) } ?? error
  }

  // MARK: - A stream of batches

  private func stream(
    _ memory: BatchMemory?, _ options: EvaluationOptions, _ whole: Batch, _ results: BatchResults
  ) async throws {
    let stream = try await client.stream(function, options: options)
    let interrupt = Interrupt { stream.cancel() }
    defer { interrupt.end() }
    // What could not be read, which has ended the stream.
    let unread = FirstUnread()
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        do { try await send(stream, memory, whole) } catch {
          if let error = error as? FileError {
            unread.error.withLock { $0 = error }
            stream.cancel()
          }
          throw error
        }
      }
      do {
        try await receive(stream, memory, results)
        try await group.waitForAll()
      } catch {
        group.cancelAll()
        throw told(error, interrupt, unread.error.withLock { $0 })
      }
    }
  }

  private func send(
    _ stream: EvaluationStream, _ memory: BatchMemory?, _ whole: Batch
  ) async throws {
    if !rule.kept.isEmpty {
      try await stream.send(rule.kept.map { ($0.name, $0.stored.tensor()) })
    }
    var places = memory?.freePlaces
    var index = 0
    while let rows = range(ofBatch: index), !Task.isCancelled {
      let batch: Batch
      if let memory {
        guard let place = await places?.next() else { break }
        batch = try memory.read(rows: rows, to: place)
        memory.use(place)
      } else {
        batch = rule.cut.map { ($0.name, $0.stored.tensor(ofRows: rows)) }
      }
      try await stream.send(batch + whole, id: UInt64(index))
      index += 1
    }
    try await stream.finish()
  }

  private func receive(
    _ stream: EvaluationStream, _ memory: BatchMemory?, _ results: BatchResults
  ) async throws {
    var index = 0
    while let result = try await stream.next() {
      memory?.giveFirst()
      if let rows = range(ofBatch: index) {
        try results.write(result, of: rows)
        results.count(result, of: rows)
      }
      index += 1
    }
    guard let summary = stream.summary else {
      throw Complaint("the daemon sent no summary")
    }
    results.end(summary)
  }

  /// An error of a batch with the place in the files in place of that in the batch: `target[131]`
  /// of the third batch of 1000 rows is `target[2131]`.
  func inTheFilesRows(_ error: StatusError) -> StatusError {
    guard let text = error.metadata["lossd-batch-id"], let batch = Int(text),
      batch >= 0, batch <= (rule.rows - 1) / batchSize
    else { return error }
    let begin = batch * batchSize
    var error = error
    let prefix = "batch \(batch): "
    if error.message.hasPrefix(prefix) { error.message.removeFirst(prefix.count) }
    for (name, stored) in rule.cut {
      guard let place = BatchedEvaluation.place(of: name, in: error.message),
        let index = Int(error.message[place])
      else { continue }
      let rowCount = max(stored.rowShape.reduce(1, *), 1)
      let (own, overflow) = index.addingReportingOverflow(begin * rowCount)
      if overflow { break }
      error.message.replaceSubrange(place, with: String(own))
      if rowCount > 1 { error.message += " (row \(own / rowCount))" }
      return error
    }
    error.message += " (in rows \(begin) to \(begin + min(batchSize, rule.rows - begin) - 1))"
    return error
  }

  /// Where the digits of `name[131]` are.
  private static func place(of name: String, in message: String) -> Range<String.Index>? {
    guard let found = message.firstRange(of: name + "[") else { return nil }
    // Not the end of a longer name: `grad.input` is another one than `input`.
    if found.lowerBound > message.startIndex {
      guard message[message.index(before: found.lowerBound)] == " " else { return nil }
    }
    let rest = message[found.upperBound...]
    let end = rest.firstIndex { !("0"..."9").contains($0) } ?? rest.endIndex
    guard end > rest.startIndex, end < rest.endIndex, rest[end] == "]" else { return nil }
    return rest.startIndex..<end
  }
}

/// Why a file could not be read.
private final class FirstUnread: Sendable {
  let error = Mutex<FileError?>(nil)
}
