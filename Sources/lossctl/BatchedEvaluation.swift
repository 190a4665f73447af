import Glibc
import LossdClient
import LossdFiles
import LossdTensor
import LossdWire

/// Evaluates tensors of files in batches of rows: one task reads and sends, another takes the results.
struct BatchedEvaluation {
  /// A batch's bytes when the user names no size.
  private static let batchBytes = 16 << 20

  let client: Client
  let description: FunctionDescription
  let options: EvaluationOptions
  let inputs: [(name: String, stored: StoredTensor)]
  let saves: [(name: String, value: String)]
  let batchSize: Int?
  let payloadBytesMax: UInt64

  /// What a stream came to.
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

  func run() async throws -> Outcome {
    let (kept, split) = try sort()
    guard let rows = split.first?.stored.rowCount else {
      throw Complaint("there is nothing to cut into batches: no input", status: 64)
    }
    for item in split where item.stored.shape.isEmpty || item.stored.rowCount != rows {
      throw Complaint(
        "\(item.name) has \(item.stored.shape.isEmpty ? "no" : "\(item.stored.rowCount)") rows, "
          + "\(split[0].name) has \(rows)", status: 64)
    }
    let rowBytes = max(split.reduce(0) { $0 + $1.stored.rowByteCount }, 1)
    let size =
      batchSize ?? max(min(BatchedEvaluation.batchBytes, Int(payloadBytesMax)) / rowBytes, 1)
    let stream = try await client.stream(description.name, options: options)
    let interrupt = Interrupt { stream.cancel() }
    defer { interrupt.end() }
    return try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await send(stream, kept, split, rows, size) }
      do {
        let outcome = try await receive(stream, rows, size)
        try await group.waitForAll()
        return outcome
      } catch {
        group.cancelAll()
        if interrupt.wasRaised { throw Complaint("interrupted", status: 130) }
        throw error
      }
    }
  }

  /// Inputs that stay, and those that are cut into batches.
  private func sort() throws -> (
    kept: [(name: String, tensor: Tensor)], split: [(name: String, stored: StoredTensor)]
  ) {
    let names = Set(description.inputs.filter(\.isKept).map(\.name))
    return (
      inputs.filter { names.contains($0.name) }.map { ($0.name, $0.stored.tensor()) },
      inputs.filter { !names.contains($0.name) }
    )
  }

  private func send(
    _ stream: EvaluationStream, _ kept: [(name: String, tensor: Tensor)],
    _ split: [(name: String, stored: StoredTensor)], _ rows: Int, _ size: Int
  ) async throws {
    if !kept.isEmpty { try await stream.send(kept) }
    var begin = 0
    var id: UInt64 = 0
    while begin < rows && !Task.isCancelled {
      let end = min(begin + size, rows)
      let range = begin..<end
      try await stream.send(
        split.map { ($0.name, $0.stored.tensor(ofRows: range)) }, id: id)
      begin = end
      id += 1
    }
    try await stream.finish()
  }

  private func receive(
    _ stream: EvaluationStream, _ rows: Int, _ size: Int
  ) async throws -> Outcome {
    var writers: [String: NPYWriter] = [:]
    var progress = Progress(rows: rows)
    var done = 0
    while let result = try await stream.next() {
      done = min(done + size, rows)
      progress.advance(to: done, loss: result["loss"]?.scalar)
      for (name, file) in saves {
        guard let tensor = result[name] else { continue }
        // A scalar a batch becomes one element a batch.
        let rowShape = Array(tensor.shape.dropFirst())
        let writer =
          try writers[name]
          ?? NPYWriter(path: file, dataType: tensor.dataType, rowShape: rowShape)
        writers[name] = writer
        try writer.append(tensor)
      }
    }
    progress.end()
    for writer in writers.values { try writer.finish() }
    guard let summary = stream.summary else {
      throw Complaint("the daemon sent no summary")
    }
    return Outcome(summary: summary, saved: saves)
  }
}
