import LossdEngine
import LossdTensor
import LossdWire

// From results to the response.
extension EvaluateJob {
  /// Sends the results.
  func respond(_ call: Call, isLast: Bool) throws(StatusError) {
    try withEvaluation { (evaluation) throws(StatusError) in
      try respond(call, evaluation, isLast: isLast)
    }
  }

  private func respond(
    _ call: Call, _ evaluation: Evaluation, isLast: Bool
  ) throws(StatusError) {
    guard let id = request?.id else { return }
    let count = evaluation.request.wantedOutputs.count
    let pieces = sentPieces(evaluation)
    var failure: StatusError?
    withUnsafeTemporaryAllocation(of: OutgoingTensor.self, capacity: max(count, 1)) { tensors in
      for position in 0..<count {
        let (view, offset, name) = evaluation.result(position)
        let storage =
          shared.isEmpty && pieces == nil
          ? TensorStorage.payload(offset: UInt64(offset), length: UInt64(view.byteCount))
          : storage(position, offset, view.byteCount, pieces)
        (tensors.baseAddress.unsafelyUnwrapped + position).initialize(
          to: OutgoingTensor(
            name: cStringBytes(name), dataType: view.dataType, shape: view.shape, storage: storage))
      }
      let response = OutgoingResponse(
        id: id, outputs: UnsafeBufferPointer(start: tensors.baseAddress, count: count))
      do throws(StatusError) {
        try call.respond(
          response, encoded: isLast ? encoded : nil, results: resultBytes(evaluation, pieces),
          isLast: isLast)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  private func storage(
    _ position: Int, _ offset: Int, _ count: Int, _ pieces: [SentPiece]?
  ) -> TensorStorage {
    if let place = shared.places.first(where: { $0.position == position }) {
      return .shared(
        region: place.region.id, offset: UInt64(place.offset), length: UInt64(place.count))
    }
    let offset = pieces?.first { $0.position == position }?.sentOffset ?? offset
    return .payload(offset: UInt64(offset), length: UInt64(count))
  }

  private typealias SentPiece = (position: Int, offset: Int, count: Int, sentOffset: Int)

  /// Of a library's results those that are sent, one by one: their places in the results' memory
  /// and in the payload. So where some were brought to the client's memory, and where a process
  /// wrote them: what lies between them is nothing that the daemon wrote. nil: all of them are
  /// sent, as they lie.
  private func sentPieces(_ evaluation: Evaluation) -> [SentPiece]? {
    guard results != nil, evaluation.entry.isForeign,
      evaluation.entry.isElsewhere || !shared.places.isEmpty
    else { return nil }
    var sent = 0
    var pieces: [SentPiece] = []
    for position in evaluation.request.wantedOutputs.indices
    where !shared.places.contains(where: { $0.position == position }) {
      let (view, offset, _) = evaluation.result(position)
      sent = TensorLayout.align64(sent)
      pieces.append((position, offset, view.byteCount, sent))
      sent += view.byteCount
    }
    return pieces
  }

  private func resultBytes(_ evaluation: Evaluation, _ pieces: [SentPiece]?) -> ResultBytes {
    if let pieces {
      return ResultBytes(
        pieces: pieces.map { ($0.offset, $0.count) }, request: results,
        total: pieces.last.map { $0.sentOffset + $0.count } ?? 0)
    }
    if evaluation.entry.isForeign && results == nil {
      // Small ones are sent as they lie: those that were brought to the client's memory leave
      // zeros.
      for place in shared.places {
        let offset = evaluation.result(place.position).offset
        (ownResults.base + offset)
          .initializeMemory(as: UInt8.self, repeating: 0, count: place.count)
      }
    }
    var bytes = ResultBytes(
      buffer: results, small: ownResults.base, count: evaluation.plan.payloadBytes,
      total: evaluation.plan.payloadBytes)
    if evaluation.plan.overwrites.isEmpty { return bytes }
    bytes.count = evaluation.plan.resultBytes
    bytes.request = payload
    bytes.pieces = evaluation.plan.overwrites.map { position, _ in
      let view = evaluation.result(position).view
      return ((view.data ?? payloadBase) - payloadBase, view.byteCount)
    }
    return bytes
  }
}
