import LossdTensor

/// The few frames for a client of gRPC that gets no connection: SETTINGS, without which it would
/// ask for nothing, and an answer to its first call that says why. A GOAWAY alone would make
/// clients connect again at once, and again.
public struct HTTP2Refusal {
  /// As long as nothing more is wanted of a client than to be refused.
  private static let headerBytes = 9
  private static let bytesMax = 64 << 10

  /// What is sent first.
  public static let settings: [UInt8] = [0, 0, 0, 4, 0, 0, 0, 0, 0]
  private static let acknowledgement: [UInt8] = [0, 0, 0, 4, 1, 0, 0, 0, 0]

  private var skipped = HTTP2Connection.preface.utf8.count
  private var header: [UInt8] = []
  private var taken = 0

  public init() {}

  /// Takes what the client sends. The answer, once it has asked for something or has sent too much:
  /// what comes afterwards is of no interest. nil: not yet.
  public mutating func take(
    _ bytes: UnsafeRawBufferPointer, _ code: StatusCode, _ text: String
  ) -> [UInt8]? {
    taken += bytes.count
    var index = 0
    while index < bytes.count {
      if skipped > 0 {
        let part = min(skipped, bytes.count - index)
        skipped -= part
        index += part
        continue
      }
      header.append(bytes[index])
      index += 1
      if header.count < HTTP2Refusal.headerBytes { continue }
      let number = header[5...].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } & 0x7FFF_FFFF
      if header[3] == 1 && number != 0 {
        return HTTP2Refusal.acknowledgement + HTTP2Refusal.answer(number, code, text)
          + HTTP2Connection.goAway(lastStream: Int32(number), .noError, text)
      }
      skipped = header[..<3].reduce(0) { $0 << 8 | Int($1) }
      header.removeAll()
    }
    return taken > HTTP2Refusal.bytesMax
      ? HTTP2Connection.goAway(lastStream: 0, .enhanceYourCalm, text) : nil
  }

  /// HEADERS with END_STREAM: a status and nothing else.
  private static func answer(_ stream: UInt32, _ code: StatusCode, _ text: String) -> [UInt8] {
    // HPACK: `:status` 200 is its static table's eighth field, and `content-type` its 31st name.
    var block: [UInt8] = [0x88, 0x0F, 0x10] + literal(Array("application/grpc".utf8))
    block += [0] + literal(Array("grpc-status".utf8)) + literal(Array("\(code.rawValue)".utf8))
    block += [0] + literal(Array("grpc-message".utf8)) + literal(GRPCText.encode(text))
    return [
      UInt8(block.count >> 16), UInt8(block.count >> 8 & 0xFF), UInt8(block.count & 0xFF), 1, 5,
    ]
      + [UInt8(stream >> 24), UInt8(stream >> 16 & 0xFF), UInt8(stream >> 8 & 0xFF)]
      + [UInt8(stream & 0xFF)] + block
  }

  /// A text as it is, behind its length in HPACK's form.
  private static func literal(_ text: [UInt8]) -> [UInt8] {
    if text.count < 127 { return [UInt8(text.count)] + text }
    var length: [UInt8] = [127]
    var rest = text.count - 127
    while rest >= 128 {
      length.append(UInt8(rest & 127) | 128)
      rest >>= 7
    }
    return length + [UInt8(rest)] + text
  }
}
