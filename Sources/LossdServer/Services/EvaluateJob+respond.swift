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
    let count = evaluation.wantedOutputs.count
    var failure: StatusError?
    withUnsafeTemporaryAllocation(of: OutgoingTensor.self, capacity: max(count, 1)) { tensors in
      for position in 0..<count {
        let (view, offset, name) = evaluation.result(position)
        let storage =
          shared.isEmpty
          ? TensorStorage.payload(offset: UInt64(offset), length: UInt64(view.byteCount))
          : storage(position, offset, view.byteCount)
        (tensors.baseAddress.unsafelyUnwrapped + position).initialize(
          to: OutgoingTensor(
            name: cStringBytes(name), dataType: view.dataType, shape: view.shape, storage: storage))
      }
      let response = OutgoingResponse(
        id: id, outputs: UnsafeBufferPointer(start: tensors.baseAddress, count: count))
      do throws(StatusError) {
        try call.respond(
          response, encoded: isLast ? encoded : nil, results: resultBytes(evaluation),
          isLast: isLast)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  private func storage(_ position: Int, _ offset: Int, _ count: Int) -> TensorStorage {
    if let place = shared.places.first(where: { $0.position == position }) {
      return .shared(
        region: place.region.id, offset: UInt64(place.offset), length: UInt64(place.count))
    }
    let offset = piecesLeft?.first { $0.position == position }?.sentOffset ?? offset
    return .payload(offset: UInt64(offset), length: UInt64(count))
  }

  /// Of a library's results, of which some were brought to the client's memory, those that are sent: their places in the
  /// results' memory and in the payload. nil: all of them are sent, as they lie.
  private var piecesLeft: [(position: Int, offset: Int, count: Int, sentOffset: Int)]? {
    guard let evaluation, evaluation.entry.isForeign, !shared.places.isEmpty, results != nil
    else { return nil }
    var sent = 0
    var pieces: [(position: Int, offset: Int, count: Int, sentOffset: Int)] = []
    for position in evaluation.wantedOutputs.indices
    where !shared.places.contains(where: { $0.position == position }) {
      let (view, offset, _) = evaluation.result(position)
      sent = TensorLayout.align64(sent)
      pieces.append((position, offset, view.byteCount, sent))
      sent += view.byteCount
    }
    return pieces
  }

  private func resultBytes(_ evaluation: Evaluation) -> ResultBytes {
    if let pieces = piecesLeft {
      return ResultBytes(
        pieces: pieces.map { ($0.offset, $0.count) }, request: results,
        total: pieces.last.map { $0.sentOffset + $0.count } ?? 0)
    }
    var bytes = ResultBytes(
      buffer: results, small: ownResults.base, count: evaluation.payloadBytes,
      total: evaluation.payloadBytes)
    if evaluation.overwrites.isEmpty { return bytes }
    bytes.count = evaluation.resultBytes
    bytes.request = payload
    bytes.pieces = evaluation.overwrites.map { position, _ in
      let view = evaluation.result(position).view
      return ((view.data ?? payloadBase) - payloadBase, view.byteCount)
    }
    return bytes
  }
}
