import Glibc
import LossdClient
import LossdFiles
import LossdTensor
import LossdWire

/// Evaluates tensors of files in batches of rows: one task reads and sends, another takes the
/// results. A mean's gradients take two passes over the files: the first for what the mean divides
/// by.
struct BatchedEvaluation {
  /// A batch's bytes when the user names no size.
  private static let batchBytes = 16 << 20

  let client: Client
  let function: String
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
    client: Client, function: String, rule: BatchRule, options: EvaluationOptions,
    saves: [(name: String, value: String)], batchSize: Int?, payloadBytesMax: Int
  ) throws(StatusError) {
    (self.client, self.function, self.rule) = (client, function, rule)
    (self.options, self.saves) = (options, saves)
    func tooMuch(_ what: String, _ bytes: Int, _ more: String = "") -> StatusError {
      StatusError(
        .resourceExhausted,
        "\(function): \(what) takes \(bytes) bytes, the daemon takes payloads of up to "
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

  func run() async throws -> Outcome {
    let clock = ContinuousClock()
    let start = clock.now
    guard let mean = rule.mean else {
      var results = try await pass(
        rule.outputs, options, rule.whole.map { ($0.name, $0.stored.tensor()) })
      try results.finish()
      return Outcome(summary: results.summary, saved: saves)
    }
    // First what is not a gradient, and with it the sum of the weights; without any the loss, for
    // the checks.
    let values = rule.outputs.filter { !BatchRule.isGradient($0) }
    var whole = rule.whole.map { ($0.name, $0.stored.tensor()) }
    var first = try await pass(values, options, whole)
    guard let weights = first.summary.state["weight_sum"] else {
      throw Complaint("the daemon's summary has no weight_sum, which a mean's gradients need")
    }
    let upstream = whole.first { $0.0 == mean.upstream }?.1.scalar ?? 1
    whole.removeAll { $0.0 == mean.upstream }
    whole.append((mean.upstream, Tensor([upstream / weights], shape: [])))
    var options = options
    options.attributes[mean.reduction] = .string("sum")
    options.timeout = options.timeout.map { max($0 - Progress.seconds(clock.now - start), 1e-6) }
    var second = try await pass(rule.outputs.filter(BatchRule.isGradient), options, whole)
    try second.finish()
    try first.finish()
    return Outcome(summary: first.summary, saved: saves)
  }

  /// What one pass over the files left: files that wait for their names, and results that are one
  /// number.
  private struct Results {
    var summary = SummaryMessage(batches: 0, rows: 0)
    var writers: [String: NPYWriter] = [:]
    var scalars: [(name: String, file: String, type: DataType)] = []

    mutating func finish() throws {
      for writer in writers.values { try writer.finish() }
      for (name, file, type) in scalars {
        guard let value = summary.values[name] else {
          throw Complaint("\(name) is a number a batch, which make none of the whole data set")
        }
        // Rounded once, like that of one call.
        let tensor: Tensor =
          switch type {
          case .float64: Tensor([value], shape: [])
          case .float16: Tensor([Float16(value)], shape: [])
          case .bfloat16: Tensor([BFloat16(value)], shape: [])
          default: Tensor([Float(value)], shape: [])
          }
        try NPYWriter.write(tensor, to: file)
      }
    }
  }

  private func pass(
    _ outputs: [String], _ options: EvaluationOptions, _ whole: [(name: String, tensor: Tensor)]
  ) async throws -> Results {
    var options = options
    options.outputs = outputs
    let stream = try await client.stream(function, options: options)
    let interrupt = Interrupt { stream.cancel() }
    defer { interrupt.end() }
    return try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await send(stream, whole) }
      do {
        let results = try await receive(stream)
        try await group.waitForAll()
        return results
      } catch {
        group.cancelAll()
        if interrupt.wasRaised { throw Complaint("interrupted", status: 130) }
        if let error = error as? StatusError { throw inTheFilesRows(error) }
        throw error
      }
    }
  }

  private func send(
    _ stream: EvaluationStream, _ whole: [(name: String, tensor: Tensor)]
  ) async throws {
    if !rule.kept.isEmpty {
      try await stream.send(rule.kept.map { ($0.name, $0.stored.tensor()) })
    }
    var begin = 0
    var id: UInt64 = 0
    while begin < rule.rows && !Task.isCancelled {
      let range = begin..<begin + min(batchSize, rule.rows - begin)
      try await stream.send(
        rule.cut.map { ($0.name, $0.stored.tensor(ofRows: range)) } + whole, id: id)
      begin = range.upperBound
      id += 1
    }
    try await stream.finish()
  }

  private func receive(_ stream: EvaluationStream) async throws -> Results {
    var results = Results()
    var progress = Progress(rows: rule.rows)
    var done = 0
    while let result = try await stream.next() {
      done += min(batchSize, rule.rows - done)
      progress.advance(to: done, loss: result["loss"]?.scalar)
      for (name, file) in saves {
        guard let tensor = result[name] else { continue }
        if tensor.shape.isEmpty {
          if !results.scalars.contains(where: { $0.file == file }) {
            results.scalars.append((name, file, tensor.dataType))
          }
          continue
        }
        let writer =
          try results.writers[file]
          ?? NPYWriter(
            path: file, dataType: tensor.dataType, rowShape: Array(tensor.shape.dropFirst()))
        results.writers[file] = writer
        try writer.append(tensor)
      }
    }
    progress.end()
    guard let summary = stream.summary else {
      throw Complaint("the daemon sent no summary")
    }
    results.summary = summary
    return results
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
