import LossdEngine
import LossdLoop
import LossdPluginHost

/// What a plugin's process writes to its log, line by line. Confined to the loop's thread.
final class ProcessLog {
  /// Lines in one second; what comes beyond waits in the pipe, and the plugin with it.
  private static let linesMax = 200
  private static let second: UInt64 = 1_000_000_000

  private let handle: WorkerHandle
  private unowned let context: CallLoop
  private let onLine: ([UInt8]) -> Void
  private var watcher: DescriptorWatcher?
  /// Ends the pause after too many lines; one for good, since one that was forgotten would outlive
  /// this object.
  private var pause: DeadlineEntry?
  /// The begin of a line whose end has not come.
  private var rest: [UInt8] = []
  private var windowStart: UInt64 = 0
  private var lines = 0

  /// `onLine` gets at most `PluginLog.lineBytesMax` bytes of each line.
  init(
    _ handle: WorkerHandle, _ context: CallLoop, onLine: @escaping ([UInt8]) -> Void
  ) throws(LoopError) {
    self.handle = handle
    self.context = context
    self.onLine = onLine
    watcher = try DescriptorWatcher(context.loop, descriptor: handle.log) { [unowned self] _ in
      read()
    }
    watcher?.watch(.readable)
  }

  /// Takes what is there, up to a bound.
  func read() {
    guard let bytes = handle.takeLog(WorkerHandle.logBytesMax) else { return close() }
    let now = Clock.now
    if now > windowStart + ProcessLog.second {
      windowStart = now
      lines = 0
    }
    for byte in bytes {
      if byte == UInt8(ascii: "\n") {
        flush()
      } else if rest.count < PluginLog.lineBytesMax {
        rest.append(byte)
      }
    }
    guard lines >= ProcessLog.linesMax, watcher != nil else { return }
    watcher?.watch([])
    let entry = pause ?? DeadlineEntry { [unowned self] in watcher?.watch(.readable) }
    pause = entry
    context.deadlines.set(entry, at: windowStart + ProcessLog.second)
  }

  private func flush() {
    lines += 1
    if !rest.isEmpty { onLine(rest) }
    rest.removeAll(keepingCapacity: true)
  }

  /// What is left of a line is one.
  func close() {
    if !rest.isEmpty { flush() }
    watcher?.close()
    watcher = nil
    if let pause { context.deadlines.cancel(pause) }
  }
}
