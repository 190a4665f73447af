import Glibc
import Logging
import LossdTensor
import Synchronization

/// swift-log to standard error: with `<N>` priorities for the journal, with the time elsewhere.
struct StandardErrorLog: LogHandler {
  /// One for all loggers, so that a reload changes it everywhere: the index in `levels`.
  private static let level = Atomic(2)
  private static let levels = Logger.Level.allCases

  var metadata = Logger.Metadata()
  /// Whether standard error is the journal: JOURNAL_STREAM names its device and inode
  /// (systemd.exec(5)), and is inherited by what writes elsewhere.
  private static let isJournal: Bool = {
    var status = stat()
    guard let stream = getenv("JOURNAL_STREAM"), fstat(STDERR_FILENO, &status) == 0 else {
      return false
    }
    return String(cString: stream) == "\(status.st_dev):\(status.st_ino)"
  }()

  /// What the line of a crash begins with: `<2>` is critical. For ever.
  nonisolated(unsafe) static let crashPrefix = UnsafePointer(strdup(isJournal ? "<2>" : ""))

  var logLevel: Logger.Level {
    get { StandardErrorLog.levels[StandardErrorLog.level.load(ordering: .relaxed)] }
    set { StandardErrorLog.setLevel(newValue) }
  }

  /// What is logged from now on: this and what is graver. Any thread.
  static func setLevel(_ level: Logger.Level) {
    StandardErrorLog.level.store(levels.firstIndex(of: level) ?? 2, ordering: .relaxed)
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    // One line a fact: a line break in what a client sent must not start another.
    let line = StandardErrorLog.prefix(event.level) + shownText("\(event.message)") + "\n"
    line.withCString { _ = write(STDERR_FILENO, $0, strlen($0)) }
  }

  /// Why the program ends or a request failed, where no logger is there: a line for people.
  static func complain(_ text: String) {
    let prefix = isJournal ? "<\(priority(.error))>" : ""
    "\(prefix)lossd: \(shownText(text))\n".withCString { _ = write(STDERR_FILENO, $0, strlen($0)) }
  }

  /// Lines of the access log, whatever the level is. Blocks until they are written; any thread.
  @Sendable static func writeCalls(_ lines: [String]) {
    let prefix = prefix(.info)
    var text: [UInt8] = []
    for line in lines {
      // What is not over this is written as one, or other lines of the log could come in between.
      if text.count + prefix.utf8.count + line.utf8.count >= Int(PIPE_BUF) { flush(&text) }
      text += "\(prefix)\(line)\n".utf8
    }
    flush(&text)
  }

  private static func flush(_ text: inout [UInt8]) {
    var begin = 0
    while begin < text.count {
      let count = text.withUnsafeBytes {
        let rest = UnsafeRawBufferPointer(rebasing: $0[begin...])
        return write(STDERR_FILENO, rest.baseAddress, rest.count)
      }
      if count < 0 && errno != EINTR { break }
      begin += max(count, 0)
    }
    text.removeAll(keepingCapacity: true)
  }

  private static func prefix(_ level: Logger.Level) -> String {
    isJournal ? "<\(priority(level))>" : "\(time()) \(level): "
  }

  /// syslog(3)'s number.
  private static func priority(_ level: Logger.Level) -> Int {
    switch level {
    case .trace, .debug: 7
    case .info: 6
    case .notice: 5
    case .warning: 4
    case .error: 3
    case .critical: 2
    }
  }

  private static func time() -> String {
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
