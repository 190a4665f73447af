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

  func run() async throws {
    let next = BatchCounter()
    let total = OrderedTotal()
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
            if let parts = total.takeParts(isLast: false) { try await merge(parts, total) }
          }
          throw CancellationError()
        }
      }
      // The first failure ends the others.
      while try await group.next() != nil {}
    }
    if !arePlaced {
      while let parts = total.takeParts(isLast: true) { try await merge(parts, total) }
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
        if let summary { total.add(summary, ofBatch: index) }
      } catch var error as StatusError {
        error.metadata["lossd-batch-id"] = String(index)
        throw error
      }
    }
  }

  /// Has the daemon make one Summary of several.
  private func merge(_ parts: [SummaryMessage], _ total: OrderedTotal) async throws {
    try await evaluation.retry.repeating { timeout in
      var options = options
      options.timeout = timeout
      total.merged(
        try await evaluation.client.merge(evaluation.function, parts, options: options))
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

/// Batches' Summaries in the order of the files, in whatever order they come, merged so many at a
/// time: the total depends on nothing else.
private final class OrderedTotal: Sendable {
  /// Summaries that one request merges, the total so far among them.
  private static let partsMax = 256

  private struct State {
    /// Of all that has been merged.
    var total: SummaryMessage?
    /// Those after it, in order.
    var parts: [SummaryMessage] = []
    var isMerging = false
    var next = 0
    /// Batches that have come before one ahead of them, by their number.
    var waiting: [Int: SummaryMessage] = [:]
  }

  private let state = Mutex(State())

  func add(_ summary: SummaryMessage, ofBatch index: Int) {
    state.withLock { state in
      state.waiting[index] = summary
      while let summary = state.waiting.removeValue(forKey: state.next) {
        state.parts.append(summary)
        state.next += 1
      }
    }
  }

  /// What is to be merged now, by one caller, which tells `merged`; nil: nothing. `isLast`: no more
  /// come.
  func takeParts(isLast: Bool) -> [SummaryMessage]? {
    state.withLock { state in
      let count = OrderedTotal.partsMax - 1
      guard !state.isMerging, state.parts.count >= (isLast ? 1 : count) else { return nil }
      if state.total == nil, state.parts.count == 1 {
        state.total = state.parts.removeFirst()
        return nil
      }
      state.isMerging = true
      let parts = state.parts.prefix(count)
      state.parts.removeFirst(parts.count)
      return (state.total.map { [$0] } ?? []) + parts
    }
  }

  func merged(_ total: SummaryMessage) {
    state.withLock { state in
      state.total = total
      state.isMerging = false
    }
  }

  var summary: SummaryMessage { state.withLock { $0.total ?? SummaryMessage(batches: 0, rows: 0) } }
}

/// Gives out numbers from 0 on.
private final class BatchCounter: Sendable {
  private let next = Atomic(0)

  func take() -> Int { next.add(1, ordering: .relaxed).oldValue }
}
