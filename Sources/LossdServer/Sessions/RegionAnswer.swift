import Glibc
import LossdSocket
import LossdTensor
import LossdWire

/// The answer to a REGION. The region is made when the answer is written, so that the daemon holds
/// no descriptor for a client that does not read. Confined to its loop's thread.
final class RegionAnswer: QueuedMessage {
  private let region: SharedRegion
  private weak var session: LossdSession?
  /// Why the region could not be made.
  private var refusal: StatusError?

  init(_ region: SharedRegion, _ session: LossdSession) {
    self.region = region
    self.session = session
  }

  /// Writes the answer, whole or not at all: with the descriptor, or with a refusal.
  override func write(_ socket: Int32) -> IOResult {
    if region.isReleased {
      refusal = StatusError(.cancelled, "region \(region.id) was released before it was made")
    }
    if refusal == nil {
      switch encoded().withBytes({ region.send($0, socket) }) {
      case .failed(let number)
      where [EMFILE, ENFILE, ENOMEM, ETOOMANYREFS, EPERM, EINVAL, ENOSPC].contains(number):
        refuse(number)
      case let outcome: return outcome
      }
    }
    return encoded().withBytes { bytes in
      var vector = iovec(
        iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
      return withUnsafePointer(to: &vector) {
        send(socket, UnsafeBufferPointer(start: $0, count: 1))
      }
    }
  }

  private func refuse(_ number: Int32) {
    refusal = StatusError(
      .resourceExhausted,
      "region \(region.id): the daemon cannot make it now: \(String(cString: strerror(number)))")
    session?.dropRegion(region)
  }

  private func encoded() -> OutputBuffer {
    let buffer = OutputBuffer()
    buffer.encodeFrame(
      regionResult: RegionResultMessage(
        region: region.id, status: refusal.map { StatusMessage($0) } ?? StatusMessage(code: 0)),
      releasing: false)
    return buffer
  }
}

extension OutputBuffer {
  fileprivate func withBytes(_ body: (UnsafeRawBufferPointer) -> IOResult) -> IOResult {
    withExtendedLifetime(self) { body(bytes) }
  }
}
