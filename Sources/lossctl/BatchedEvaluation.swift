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
  /// A batch's bytes when the user names no size.
  private static let batchBytes = 16 << 20

  let client: Client
  let description: FunctionDescription
  let rule: BatchRule
  let options: EvaluationOptions
  let saves: [(name: String, value: String)]
  /// Rows a batch, the last one's perhaps fewer.
  let batchSize: Int

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
    payloadBytesMax: Int
  ) throws(StatusError) {
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

  private var function: String { description.name }

  func run() async throws -> Outcome {
    let clock = ContinuousClock()
    let start = clock.now
    var whole: Batch = []
    for (name, stored) in rule.whole { whole.append((name, try await stored.shared(with: client))) }
    // Nothing is wanted of the whole data set along with these.
    let placed =
      rule.mean != nil
      ? rule.outputs.filter(BatchRule.isGradient)
      : description.kind == "activation" ? rule.outputs : []
    // What a plugin's function adds up, and what its results are like, it says itself.
    let results =
      description.isBuiltIn ? BatchRule.placed(placed, of: rule.cut, options.attributes) : []
    let memory = try await BatchMemory(client, rule, batchSize: batchSize, results: results)
    defer { memory?.release() }
    guard let mean = rule.mean else {
      let results = try await pass(rule.outputs, options, whole, memory)
      try results.finish()
      return Outcome(summary: results.summary, saved: saves)
    }
    // First what is not a gradient, and with it the sum of the weights; without any the loss, for
    // the checks.
    let values = rule.outputs.filter { !BatchRule.isGradient($0) }
    let first = try await pass(values, options, whole, memory)
    guard let weights = first.summary.state["weight_sum"] else {
      throw Complaint("the daemon's summary has no weight_sum, which a mean's gradients need")
    }
    let upstream = whole.first { $0.name == mean.upstream }?.tensor.scalar ?? 1
    whole.removeAll { $0.name == mean.upstream }
    whole.append((mean.upstream, Tensor([upstream / weights], shape: [])))
    var options = options
    options.attributes[mean.reduction] = .string("sum")
    options.timeout = options.timeout.map { max($0 - Progress.seconds(clock.now - start), 1e-6) }
    let second = try await pass(placed, options, whole, memory)
    try second.finish()
    try first.finish()
    return Outcome(summary: first.summary, saved: saves)
  }

  typealias Batch = [(name: String, tensor: Tensor)]

  /// One pass over the files. Where all results have places in shared memory each batch is a call
  /// of its own: a stream's come by the socket.
  private func pass(
    _ outputs: [String], _ options: EvaluationOptions, _ whole: Batch, _ memory: BatchMemory?
  ) async throws -> BatchResults {
    var options = options
    options.outputs = outputs
    let results = BatchResults(saves, rows: rule.rows)
    if let memory, !outputs.isEmpty, outputs.allSatisfy(memory.hasPlace) {
      var whole = whole
      for (name, stored) in rule.kept {
        whole.append((name, try await stored.shared(with: client)))
      }
      let work = Task { [whole, options] in try await calls(memory, options, whole, results) }
      let interrupt = Interrupt { work.cancel() }
      defer { interrupt.end() }
      do { try await work.value } catch { throw told(error, interrupt, nil) }
    } else {
      try await stream(memory, options, whole, results)
    }
    return results
  }

  // MARK: - Each batch a call

  /// Each place has a task that reads a batch there, has it computed and writes its results.
  private func calls(
    _ memory: BatchMemory, _ options: EvaluationOptions, _ whole: Batch, _ results: BatchResults
  ) async throws {
    let clock = ContinuousClock()
    let start = clock.now
    let next = BatchCounter()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for place in 0..<memory.count {
        group.addTask {
          while !Task.isCancelled {
            let index = next.take()
            guard let rows = range(ofBatch: index) else { return }
            var options = options
            options.timeout = options.timeout.map {
              max($0 - Progress.seconds(clock.now - start), 1e-6)
            }
            let inputs = try memory.read(rows: rows, to: place) + whole
            do {
              let evaluated = try await client.evaluate(
                function, inputs: inputs, options: options,
                into: memory.results(rows: rows.count, at: place))
              try results.add(evaluated, of: rows)
              try evaluated.checkIntact()
            } catch var error as StatusError {
              error.metadata["lossd-batch-id"] = String(index)
              throw error
            }
          }
        }
      }
      try await group.waitForAll()
    }
    results.end()
  }

  /// Rows of a batch; nil beyond the last.
  private func range(ofBatch index: Int) -> Range<Int>? {
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
      if let rows = range(ofBatch: index) { try results.add(result, of: rows) }
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

/// Gives out numbers from 0 on.
private final class BatchCounter: Sendable {
  private let next = Atomic(0)

  func take() -> Int { next.add(1, ordering: .relaxed).oldValue }
}

/// Why a file could not be read.
private final class FirstUnread: Sendable {
  let error = Mutex<FileError?>(nil)
}
