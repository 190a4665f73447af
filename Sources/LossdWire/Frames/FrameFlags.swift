/// A frame header's flags.
public struct FrameFlags: OptionSet, Sendable {
  public let rawValue: UInt8

  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// No MESSAGE follows from this side.
  public static let endStream = FrameFlags(rawValue: 0x01)
  /// A PING's answer.
  public static let ack = FrameFlags(rawValue: 0x02)
}
