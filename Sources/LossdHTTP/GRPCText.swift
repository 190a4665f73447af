/// gRPC's `grpc-message`: UTF-8, of which every byte outside of 0x20 to 0x7E, and `%`, is written
/// as `%XX`.
public enum GRPCText {
  /// Clients refuse trailers of over 8 KiB, some of less.
  public static let bytesMax = 2048

  /// The text encoded, at most `bytesMax` bytes of it, and no part of a character.
  public static func encode(_ text: String) -> [UInt8] {
    var encoded: [UInt8] = []
    encoded.reserveCapacity(min(text.utf8.count, bytesMax))
    for character in text.unicodeScalars {
      let begin = encoded.count
      for byte in UTF8.encode(character).unsafelyUnwrapped {
        if byte >= 0x20 && byte <= 0x7E && byte != UInt8(ascii: "%") {
          encoded.append(byte)
        } else {
          encoded += [UInt8(ascii: "%"), digit(byte >> 4), digit(byte & 15)]
        }
      }
      if encoded.count > bytesMax {
        encoded.removeLast(encoded.count - begin)
        break
      }
    }
    return encoded
  }

  private static func digit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "A") + value - 10
  }
}
