/// Walks over the frames of what a client sends, for those that cost their sender little, whether
/// nghttp2 tells of them or skips them without a word: types that it does not know, PRIORITY,
/// acknowledged PINGs, and what belongs to streams that are closed. Confined to one thread at a
/// time.
struct FrameWalk {
  private static let headerBytes = 9

  /// Bytes of the frame under way that are still to come.
  private var left = 0
  private var headerCount = 0
  private var length = 0
  private var type: UInt8 = 0
  private var flags: UInt8 = 0

  /// Calls `found` for each such frame whose header ends within `bytes`.
  mutating func walk(_ bytes: UnsafeRawBufferPointer, _ found: (HTTP2Control) -> Void) {
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
      } else if headerCount == 4 {
        flags = byte
      }
      headerCount += 1
      if headerCount < FrameWalk.headerBytes { continue }
      left = length
      length = 0
      headerCount = 0
      if let kind { found(kind) }
    }
  }

  /// What the frame is whose header has come; nil: one that nghttp2 tells of, or that is limited
  /// otherwise.
  private var kind: HTTP2Control? {
    // As RFC 9113 numbers them.
    switch type {
    case 0: left == 0 ? .emptyData : nil
    case 1: .headers
    case 2: .priority
    case 6: flags & 1 != 0 ? .acknowledgement : nil
    case 7: .goAway
    case 8: .windowUpdate
    case 3, 4, 5, 9: nil
    default: .unknown
    }
  }
}
