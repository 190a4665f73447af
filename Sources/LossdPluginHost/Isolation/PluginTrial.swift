import CLinux
import Glibc
import LossdEngine
import LossdTensor
import LossdThreads
import Synchronization

/// The first time that a library is opened, in a process of its own, while the thread that asked
/// for it waits.
struct PluginTrial {
  let handle: WorkerHandle
  let image: DescriptorImage
  let startsThreads: Bool

  /// FAILED_PRECONDITION with the reason where the library cannot be loaded, UNAVAILABLE where no
  /// process can be had.
  static func run(
    _ library: Int32, _ path: String, _ settings: IsolationSettings,
    _ log: @escaping (String) -> Void, _ warn: (String) -> Void
  ) throws(StatusError) -> PluginTrial {
    let done = Gate()
    // Its own name is known when it has been loaded.
    let file = splitPath(path).file
    let name = file.hasSuffix(".so") ? String(file.dropLast(3)) : file
    ProcessSpawner.shared.spawn(settings, library: library, name: name, path: path) {
      [done] result in
      done.open(result)
    }
    let handle = try done.wait().get()
    var lines = Lines(log)
    defer { lines.end(handle) }
    let deadline = Clock.now + settings.loadTimeout
    let memory = MessageMemory()
    var answer: Unpacker
    var kind: Order?
    var isFirst = true
    repeat {
      guard waitForWord(handle, deadline, &lines) else {
        handle.kill()
        throw PluginFile.refused(
          path,
          "it has not loaded within \(settings.loadTimeout / 1_000_000) ms (plugins.load_timeout)")
      }
      answer = receiveAnswer(handle, memory)
      kind = Order(rawValue: answer.take())
      _ = answer.take(UInt32.self)
      _ = answer.take(UInt64.self)
      guard isFirst, kind == .confined else { break }
      isFirst = false
      if let line = ConfinementGaps(rawValue: answer.take()).takeLine() { warn(line) }
    } while true
    switch kind {
    case .ready:
      let startsThreads = answer.take(UInt32.self) != 0
      return PluginTrial(
        handle: handle, image: try DescriptorImage(&answer), startsThreads: startsThreads)
    case .refused: throw answer.takeError()
    default:
      throw PluginFile.refused(path, "its process \(waitForEnd(handle)) while loading it")
    }
  }

  /// Has a process of the plugin's that nobody needs stop it and close its library, as the daemon
  /// will one day. Returns what went wrong; nil: nothing.
  static func rehearseEnd(
    _ handle: WorkerHandle, staysMapped: Bool, _ settings: IsolationSettings,
    _ log: @escaping (String) -> Void = { _ in }
  ) -> String? {
    let memory = MessageMemory()
    var order = Packer(memory.all)
    order.put(Order.close, 0)
    order.put(UInt32(staysMapped ? 1 : 0))
    _ = clinux_send_message(handle.socket, order.bytes.baseAddress, order.count, nil, 0, 0)
    var lines = Lines(log)
    defer { lines.end(handle) }
    guard waitForWord(handle, Clock.now + settings.loadTimeout, &lines) else {
      handle.kill()
      return "it has not ended within \(settings.loadTimeout / 1_000_000) ms (plugins.load_timeout)"
    }
    var answer = receiveAnswer(handle, memory)
    if Order(rawValue: answer.take()) == .closed { return nil }
    return "its process \(waitForEnd(handle))"
  }

  /// What is said of a plugin that cannot be unloaded well.
  static func unfit(_ reason: String) -> String {
    "it is not fit for the daemon and runs in a process of its own: when it was unloaded, \(reason)"
  }

  /// What the process has said, empty where it has ended; lies in `memory`. Descriptors that come
  /// along are closed.
  private static func receiveAnswer(_ handle: WorkerHandle, _ memory: MessageMemory) -> Unpacker {
    var descriptors = ReceivedNumbers()
    defer { descriptors.numbers.deallocate() }
    let count = clinux_receive_message(
      handle.socket, memory.base, Order.bytesMax, descriptors.numbers, &descriptors.count, 0)
    for descriptor in descriptors.take() { _ = close(descriptor) }
    return Unpacker(memory.bytes(max(count, 0)))
  }

  /// Whether its socket has something to say before the time is up; what it logs is read meanwhile,
  /// or it would have to wait for that.
  static func waitForWord(
    _ handle: WorkerHandle, _ deadline: UInt64, _ lines: inout Lines
  ) -> Bool {
    var logs = true
    while true {
      let now = Clock.now
      if now >= deadline { return false }
      var polls = [
        pollfd(fd: handle.socket, events: Int16(POLLIN), revents: 0),
        pollfd(fd: logs ? handle.log : -1, events: Int16(POLLIN), revents: 0),
      ]
      // A setting may be a year, which is more milliseconds than poll takes.
      _ = poll(&polls, 2, Int32(min((deadline - now) / 1_000_000, 3_600_000) + 1))
      if polls[1].revents != 0 { logs = lines.take(handle) }
      if polls[0].revents != 0 { return true }
    }
  }

  /// How a process has ended whose socket is closed.
  static func waitForEnd(_ handle: WorkerHandle) -> String {
    for _ in 0..<500 {
      if let end = handle.end() { return end.text }
      usleep(2000)
    }
    handle.kill()
    return "hung"
  }

  /// What it writes to its log, as lines, so many at most.
  struct Lines {
    private static let linesMax = 100
    private let log: (String) -> Void
    private var rest: [UInt8] = []
    private var count = 0

    init(_ log: @escaping (String) -> Void) { self.log = log }

    /// Whether there may be more.
    mutating func take(_ handle: WorkerHandle) -> Bool {
      guard let bytes = handle.takeLog(WorkerHandle.logBytesMax) else { return false }
      for byte in bytes {
        if byte == UInt8(ascii: "\n") {
          flush()
        } else if rest.count < PluginLog.lineBytesMax {
          rest.append(byte)
        }
      }
      return !bytes.isEmpty
    }

    /// Once it has said what it had to say.
    mutating func end(_ handle: WorkerHandle) {
      while count < Lines.linesMax && take(handle) {}
      if !rest.isEmpty { flush() }
      if count > Lines.linesMax { log("\(count - Lines.linesMax) lines more, which are left out") }
    }

    private mutating func flush() {
      count += 1
      if count <= Lines.linesMax && !rest.isEmpty {
        // syslog(3)'s priority, where the process has put one before it.
        let isMarked =
          rest.count > 3 && rest[0] == UInt8(ascii: "<") && rest[2] == UInt8(ascii: ">")
        log(PluginLog.harmless(rest.dropFirst(isMarked ? 3 : 0)))
      }
      rest.removeAll(keepingCapacity: true)
    }
  }
}

/// Lets a thread wait for a result.
private final class Gate: Sendable {
  private let result = Mutex<Result<WorkerHandle, StatusError>?>(nil)
  private let semaphore = Semaphore()

  func open(_ value: Result<WorkerHandle, StatusError>) {
    result.withLock { $0 = value }
    semaphore.signal()
  }

  func wait() -> Result<WorkerHandle, StatusError> {
    semaphore.wait()
    return result.withLock { $0 }
      ?? .failure(StatusError(.internal, "the spawner gave no answer"))
  }
}
