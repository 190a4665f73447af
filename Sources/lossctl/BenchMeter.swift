import Glibc

/// Processor time that this process and the daemon take within a span of time; the daemon's plugin
/// processes are part of the daemon.
struct BenchMeter {
  private let daemon: Int32?
  private let from: UInt64
  private let until: UInt64

  /// Of `Clock.monotonic`'s nanoseconds.
  init(_ daemon: Int32?, from: UInt64, until: UInt64) {
    self.daemon = daemon
    self.from = from
    self.until = until
  }

  /// Waits until the end of it, or until `isOver`.
  func measure(isOver: () -> Bool) -> BenchReport.Processors {
    sleep(until: from, isOver)
    let before = (own: own(), daemon: daemon.flatMap(other))
    let begun = monotonicNanoseconds()
    sleep(until: until, isOver)
    let after = (own: own(), daemon: daemon.flatMap(other))
    let seconds = Double(monotonicNanoseconds() - begun) / 1e9
    var processors = BenchReport.Processors(client: (after.own - before.own) / seconds)
    if let begin = before.daemon, let end = after.daemon {
      processors.daemon = (end - begin) / seconds
    }
    return processors
  }

  private func sleep(until time: UInt64, _ isOver: () -> Bool) {
    while !isOver() {
      let now = monotonicNanoseconds()
      if now >= time { return }
      usleep(UInt32(min((time - now) / 1000 + 1, 100_000)))
    }
  }

  /// Seconds of processor time.
  private func own() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }

  private func seconds(_ time: timeval) -> Double {
    Double(time.tv_sec) + Double(time.tv_usec) / 1e6
  }

  /// The same of another process and its children, those that have ended included.
  private func other(_ process: Int32) -> Double? {
    guard var total = times(process)?.total, let folder = opendir("/proc") else { return nil }
    defer { closedir(folder) }
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if let child = Int32(name), let times = times(child), times.parent == process {
        total += times.total
      }
    }
    return total
  }

  /// A process's parent, and utime, stime, cutime and cstime of /proc/PID/stat, proc(5).
  private func times(_ process: Int32) -> (parent: Int32, total: Double)? {
    let descriptor = open("/proc/\(process)/stat", O_RDONLY | O_CLOEXEC)
    if descriptor < 0 { return nil }
    defer { _ = close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = read(descriptor, &bytes, bytes.count)
    let text = String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
    // The name in parentheses may have blanks.
    guard let end = text.lastIndex(of: ")") else { return nil }
    let fields = text[text.index(after: end)...].split(separator: " ")
    guard fields.count > 14, let parent = Int32(fields[1]) else { return nil }
    let ticks = fields[11...14].compactMap { Double($0) }.reduce(0, +)
    return (parent, ticks / Double(sysconf(Int32(_SC_CLK_TCK))))
  }
}
