import Glibc

/// The bytes of a job's last request, so that one that equals it is known again. Only small ones: a
/// training loop's requests differ in their payload alone. Confined to its loop's thread.
final class LastRequest {
  private static let bytesMax = 512

  private let memory = UnsafeMutableRawPointer.allocate(
    byteCount: LastRequest.bytesMax, alignment: 16)
  private var count = 0
  /// Of the frame that it came in.
  var payloadBytes = 0
  /// Whether what was made of it is still there, to be used again.
  var isRepeatable = false

  deinit { memory.deallocate() }

  var isKnown: Bool { count > 0 }

  func keep(_ message: UnsafeRawBufferPointer) {
    guard message.count <= LastRequest.bytesMax, let source = message.baseAddress else { return }
    memory.copyMemory(from: source, byteCount: message.count)
    count = message.count
  }

  func equals(_ message: UnsafeRawBufferPointer) -> Bool {
    guard message.count == count, let other = message.baseAddress else { return false }
    return memcmp(memory, other, count) == 0
  }

  func forget() {
    count = 0
    isRepeatable = false
  }
}
