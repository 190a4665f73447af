import Glibc
import LossdWire

/// A connection's last OPEN, its bytes and what they said. An OPEN of the same bytes is not decoded
/// again. Long OPENs are not kept. Confined to its loop's thread.
final class LastOpen {
  private static let bytesMax = 128

  private let memory = UnsafeMutableRawPointer.allocate(
    byteCount: LastOpen.bytesMax, alignment: 16)
  private var count = -1
  private(set) var method = Method(number: 0, path: "", isStreaming: false, isEvaluating: false)
  /// Nanoseconds; 0: none.
  private(set) var timeout: UInt64 = 0
  private(set) var credit: UInt32 = 0

  deinit { memory.deallocate() }

  func equals(_ message: UnsafeRawBufferPointer) -> Bool {
    guard message.count == count, let other = message.baseAddress else { return false }
    return memcmp(memory, other, count) == 0
  }

  func keep(_ message: UnsafeRawBufferPointer, _ method: Method, _ open: OpenMessage) {
    self.method = method
    timeout = open.timeoutMicroseconds * 1000
    credit = open.credit
    guard message.count <= LastOpen.bytesMax, let source = message.baseAddress else { return }
    memory.copyMemory(from: source, byteCount: message.count)
    count = message.count
  }

  func forget() { count = -1 }
}
