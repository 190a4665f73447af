import LossdTensor
import LossdWire

/// What one small request is parted into, a loop's: its message and its tensors. Both are used
/// before the next request.
final class RequestParts {
  /// Requests of more bytes get a buffer of their own: what is parted fits into a job's own memory.
  static let requestBytesMax = EvaluateJob.ownPayloadBytes - RequestSplitter.paddingBytesMax

  let splitter = RequestSplitter()
  let payload = AlignedBuffer(count: EvaluateJob.ownPayloadBytes)
}
