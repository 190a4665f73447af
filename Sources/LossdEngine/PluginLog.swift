import CLinux
import CLossdPlugin
import Glibc
import Synchronization

/// Lines that plugins write to the log: made harmless, counted, and left out where they are too
/// many. Any thread.
public enum PluginLog {
  /// Lines in a second; beyond, they are left out, and how many is said later.
  public static let linesMax = 200
  /// Bytes of one line.
  public static let lineBytesMax = 500

  private struct State {
    var sink: @Sendable (_ level: Int32, _ text: String) -> Void = PluginLog.toStandardError
    var windowStart: UInt64 = 0
    var lines = 0
    var leftOut = 0
  }

  private static let state = Mutex(State())

  /// Where lines go from now on; `level` is one of plugin.h's.
  public static func setSink(_ sink: @escaping @Sendable (_ level: Int32, _ text: String) -> Void) {
    state.withLock { $0.sink = sink }
  }

  /// What a plugin said, in the words of its own thread.
  static func write(_ level: Int32, _ text: UnsafePointer<CChar>) {
    let bytes = UnsafeRawBufferPointer(start: text, count: strnlen(text, lineBytesMax))
    add(level, clinux_activity().map { "\(String(cString: $0)): " } ?? "", harmless(bytes))
  }

  private static func add(_ level: Int32, _ place: String, _ text: String) {
    let now = Clock.now
    let (sink, leftOut, isShown) = state.withLock { state in
      var leftOut = 0
      if now > state.windowStart + 1_000_000_000 {
        leftOut = state.leftOut
        state.windowStart = now
        state.lines = 0
        state.leftOut = 0
      }
      state.lines += 1
      if state.lines > linesMax { state.leftOut += 1 }
      return (state.sink, leftOut, state.lines <= linesMax)
    }
    if leftOut > 0 {
      sink(LOSSD_LOG_WARNING, "plugins wrote \(leftOut) lines more, which were left out")
    }
    if isShown { sink(level, place + text) }
  }

  /// Bytes of a plugin as one line of text: what is not UTF-8, line ends and control characters as
  /// something else.
  public static func harmless(_ bytes: some Sequence<UInt8>) -> String {
    let bytes = Array(bytes)
    let text = String(decoding: bytes, as: UTF8.self)
    guard bytes.contains(where: { $0 < 32 || $0 >= 127 }) else { return text }
    var line = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      // C0, DEL, C1, and what some take for the end of a line.
      let isControl = scalar.value < 32 || (127..<160).contains(scalar.value)
      line.append(isControl || (0x2028...0x2029).contains(scalar.value) ? "?" : scalar)
    }
    return String(line)
  }

  private static let toStandardError: @Sendable (Int32, String) -> Void = { _, text in
    "plugin: \(text)\n".withCString { _ = Glibc.write(STDERR_FILENO, $0, strlen($0)) }
  }
}
