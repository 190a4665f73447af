/// Walks over the frames of what a client sends, for those that nghttp2 skips without a word:
/// PRIORITY, and types that it does not know. Confined to one thread at a time.
struct FrameWalk {
  private static let headerBytes = 9

  /// Bytes of the frame under way that are still to come.
  private var left = 0
  private var headerCount = 0
  private var length = 0
  private var type: UInt8 = 0

  /// Calls `skipped` for each such frame whose header ends within `bytes`.
  mutating func walk(_ bytes: UnsafeRawBufferPointer, _ skipped: (HTTP2Control) -> Void) {
    var index = 0
    while index < bytes.count {
      if left > 0 {
        let part = min(left, bytes.count - index)
        left -= part
        index += part
        continue
      }
      let byte = bytes[index]
      index += 1
      if headerCount < 3 {
        length = length << 8 | Int(byte)
      } else if headerCount == 3 {
        type = byte
      }
      headerCount += 1
      if headerCount < FrameWalk.headerBytes { continue }
      left = length
      length = 0
      headerCount = 0
      // 0 to 9 are RFC 9113's; 2 is PRIORITY.
      if type == 2 { skipped(.priority) } else if type > 9 { skipped(.unknown) }
    }
  }
}
