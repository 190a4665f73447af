import Glibc
import Logging

/// swift-log to standard error: with `<N>` priorities for the journal, with the time elsewhere.
struct StandardErrorLog: LogHandler {
  var logLevel = Logger.Level.info
  var metadata = Logger.Metadata()
  private let isJournal = getenv("JOURNAL_STREAM") != nil

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    // One line a fact: a line break in what a client sent must not start another.
    let text = "\(event.message)".map { $0.isNewline ? " " : $0 }
    let prefix = isJournal ? "<\(priority(event.level))>" : "\(time()) \(event.level): "
    let line = prefix + String(text) + "\n"
    line.withCString { _ = write(STDERR_FILENO, $0, strlen($0)) }
  }

  /// syslog(3)'s number.
  private func priority(_ level: Logger.Level) -> Int {
    switch level {
    case .trace, .debug: 7
    case .info: 6
    case .notice: 5
    case .warning: 4
    case .error: 3
    case .critical: 2
    }
  }

  private func time() -> String {
    var now = Glibc.time(nil)
    var parts = tm()
    localtime_r(&now, &parts)
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { buffer in
      let count = strftime(buffer.baseAddress, 32, "%Y-%m-%d %H:%M:%S", &parts)
      return String(
        decoding: UnsafeRawBufferPointer(start: buffer.baseAddress, count: count), as: UTF8.self)
    }
  }
}
