import LossdClient
import LossdTensor
import LossdWire
import Synchronization

/// One pass over the files in which each batch is a call of its own: a few tasks read a batch each,
/// have it computed and write its results. A batch whose call a crash or a restart of the daemon
/// has ended is repeated alone, where --retry says so.
struct BatchCalls: Sendable {
  /// Batches under way at once without places in shared memory: small ones, and big ones.
  private static let (smallCount, bigCount) = (8, 3)

  let evaluation: BatchedEvaluation
  let options: EvaluationOptions
  let memory: BatchMemory?
  /// Whether results come in shared memory, without sums; else each batch has a Summary of its own.
  let arePlaced: Bool
  let whole: WholeInputs
  let results: BatchResults

  /// The function declares no sums that say what its batches come to: a stream is to compute them.
  struct NoTotal: Error {}

  func run() async throws {
    let next = BatchCounter()
    let total = OrderedTotal(SummaryTotal(evaluation.description, options.attributes))
    let isSmall =
      evaluation.rule.payloadBytes(rows: evaluation.batchSize) < BatchMemory.bytesMin
    let count = memory?.count ?? (isSmall ? BatchCalls.smallCount : BatchCalls.bigCount)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for place in 0..<count {
        group.addTask {
          while !Task.isCancelled {
            let index = next.take()
            guard let rows = evaluation.range(ofBatch: index) else { return }
            try await batch(index, rows, place, total)
          }
          throw CancellationError()
        }
      }
      // The first failure ends the others.
      while try await group.next() != nil {}
    }
    results.end(arePlaced ? nil : total.summary)
  }

  private func batch(
    _ index: Int, _ rows: Range<Int>, _ place: Int, _ total: OrderedTotal
  ) async throws {
    try await evaluation.retry.repeating { timeout in
      do {
        var options = options
        options.timeout = timeout
        let (evaluated, summary) = try await call(rows, place, options)
        try results.write(evaluated, of: rows)
        try evaluated.checkIntact()
        results.count(evaluated, of: rows)
        if let summary, !total.add(summary, ofBatch: index) { throw NoTotal() }
      } catch var error as StatusError {
        error.metadata["lossd-batch-id"] = String(index)
        throw error
      }
    }
  }

  private func call(
    _ rows: Range<Int>, _ place: Int, _ options: EvaluationOptions
  ) async throws -> (Evaluated, SummaryMessage?) {
    try await memory?.renew(place, evaluation.client, evaluation.retry)
    let whole = try await whole.tensors()
    let cut =
      try memory?.read(rows: rows, to: place) ?? BatchMemory.read(evaluation.rule.cut, rows: rows)
    if !arePlaced {
      return try await evaluation.client.evaluateBatch(
        evaluation.function, inputs: cut + whole, options: options)
    }
    let evaluated = try await evaluation.client.evaluate(
      evaluation.function, inputs: cut + whole, options: options,
      into: memory?.results(rows: rows.count, at: place) ?? [:])
    return (evaluated, nil)
  }
}

/// Adds batches' sums up in the order of the files, in whatever order they come: the total depends
/// on nothing else.
private final class OrderedTotal: Sendable {
  private struct State {
    var total: SummaryTotal
    var next = 0
    /// Batches that have come before one ahead of them, by their number.
    var waiting: [Int: SummaryMessage] = [:]
  }

  private let state: Mutex<State>

  init(_ total: SummaryTotal) { state = Mutex(State(total: total)) }

  /// False where the sums of the function cannot be added up.
  func add(_ summary: SummaryMessage, ofBatch index: Int) -> Bool {
    state.withLock { state in
      state.waiting[index] = summary
      while let summary = state.waiting.removeValue(forKey: state.next) {
        guard state.total.add(summary) else { return false }
        state.next += 1
      }
      return true
    }
  }

  var summary: SummaryMessage { state.withLock { $0.total.summary } }
}

/// Gives out numbers from 0 on.
private final class BatchCounter: Sendable {
  private let next = Atomic(0)

  func take() -> Int { next.add(1, ordering: .relaxed).oldValue }
}
