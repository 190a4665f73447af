import CLinux
import CLossdPlugin
import Glibc
import LossdEngine
import LossdTensor
import Synchronization

/// The other end of `lossd plugin-host`: a process that opens one plugin and computes its
/// functions, one call at a time, for the daemon that started it. Its socket is descriptor 3, the
/// sealed library descriptor 4, its log descriptor 2; its argument is the plugin's name. It knows
/// no client and no path, and ends with the socket.
public final class PluginProcess: @unchecked Sendable {
  // Safe to share: `current` is behind a lock; all else is used by the main thread and, between
  // `begin` and the answer of a call that the workers compute, by the worker that completes it.
  static let socket: Int32 = 3
  static let library: Int32 = 4
  /// The daemon's first argument in such a process.
  public static let command = CLINUX_PROCESS_COMMAND
  /// Work up to this is done by the thread that reads, nanoseconds.
  private static let ownCost = 200_000.0

  private var entries: [FunctionEntry]
  private var library: PluginLibrary?
  private let workers: WorkerThreads
  private let group = WorkGroup()
  /// Two, so that what comes during a call does not overwrite it.
  private let incoming = [MessageMemory(), MessageMemory()]
  private let outgoing = MessageMemory()
  private let segments = SegmentMappings()
  private let words: SharedWords.View
  /// Segments to let go of when the call is over.
  private var forgotten: [UInt64] = []
  private let ownResults = AlignedBuffer.zeroed(count: Order.ownResultBytes)
  private let ownWorkspace = AlignedBuffer.zeroed(count: Order.ownWorkspaceBytes)
  private let ownScratch = AlignedBuffer.zeroed(count: Order.ownScratchBytes)
  private let current: Mutex<ProcessCall?> = Mutex(nil)
  private let answering: UnsafeMutablePointer<pthread_mutex_t>

  /// Runs the process; returns its exit status.
  public static func main() -> Int32 {
    guard clinux_end_with_parent() == 0 else { return 1 }
    signal(SIGPIPE, SIG_IGN)
    PluginLog.setSink { level, text in
      // syslog(3)'s numbers, which the daemon knows again.
      let priorities: [Int32: Int] = [0: 7, 1: 6, 2: 4]
      let line = "<\(priorities[level] ?? 3)>\(text)\n"
      line.withCString { _ = write(STDERR_FILENO, $0, strlen($0)) }
    }
    let memory = MessageMemory()
    var descriptors = ReceivedNumbers()
    let count = receive(memory, &descriptors)
    guard count > 0, let words = SharedWords.View(descriptors.take()) else { return 1 }
    var order = Unpacker(memory.bytes(count))
    guard order.take(UInt32.self) == Order.configure.rawValue else { return 1 }
    _ = order.take(UInt32.self)
    _ = order.take(UInt64.self)
    let memoryBytes: UInt64 = order.take()
    let sharedBytes: UInt64 = order.take()
    let threads = Int(order.take(UInt32.self))
    let isFullDemanded = order.take(UInt32.self) != 0
    let parent: Int32 = order.take()
    let name = order.takeText()
    let path = order.takeText()
    // The daemon compares the plan with its setting, which it may change at any time.
    Evaluation.callCostMax = 0
    // It may have died before this process was to end with it.
    guard !order.isBroken, getppid() == parent else { return 1 }
    clinux_name_process(name)
    // While its own threads can still be looked at.
    let tasks = ThreadCount()
    do throws(StatusError) {
      let gaps = Confinement.limit(
        memoryBytes: memoryBytes, sharedBytes: sharedBytes, threads: threads
      ).union(Confinement.confineFiles())
      try tell(gaps, isFullDemanded: isFullDemanded, memory)
      let process = try PluginProcess(
        path, threads: threads, words, tasks)
      process.serve()
      return 0
    } catch {
      var answer = Packer(memory.all)
      answer.put(Order.refused, 0)
      answer.put(error)
      send(answer.bytes)
      return 1
    }
  }

  /// Says what this process could not be kept from, or FAILED_PRECONDITION where that is not to be
  /// borne.
  private static func tell(
    _ gaps: ConfinementGaps, isFullDemanded: Bool, _ memory: MessageMemory
  ) throws(StatusError) {
    if gaps.isEmpty { return }
    if isFullDemanded {
      throw StatusError(
        .failedPrecondition,
        "its process cannot be confined in full, which plugins.confinement asks for: \(gaps.text)")
    }
    var answer = Packer(memory.all)
    answer.put(Order.confined, 0)
    answer.put(gaps.rawValue)
    send(answer.bytes)
  }

  private init(
    _ path: String, threads: Int, _ words: SharedWords.View, _ tasks: ThreadCount
  ) throws(StatusError) {
    self.words = words
    answering = .allocate(capacity: 1)
    pthread_mutex_init(answering, nil)
    if let reason = Confinement.beforeLoading() {
      throw StatusError(.failedPrecondition, "its process cannot be confined: \(reason)")
    }
    let library = try PluginLibrary(copy: PluginProcess.library, path: path)
    clinux_name_process(library.name)
    let registry = Registry()
    try registry.add(library.plugin, owner: library)
    entries = try PluginProcess.entries(library, registry)
    self.library = library
    let startsThreads = tasks.isMoreThanOne
    // Threads cannot be started later.
    let counter = Counter()
    workers = WorkerThreads(
      workers: threads, clearsScratch: true, watch: ThreadWatch(begin: { counter.add() }))
    counter.wait(for: threads)
    if let reason = Confinement.afterLoading() {
      throw StatusError(.failedPrecondition, "its process cannot be confined: \(reason)")
    }
    var answer = Packer(outgoing.all)
    answer.put(Order.ready, 0)
    answer.put(UInt32(startsThreads ? 1 : 0))
    DescriptorImage.pack(library.plugin.pointee, into: &answer)
    guard !answer.isFull else {
      throw PluginFile.refused(
        path,
        "its declarations take more than the \(Order.bytesMax) bytes that a process of its own may "
          + "send"
      )
    }
    PluginProcess.send(answer.bytes)
  }

  /// In the order of the descriptor, which is how the daemon names them.
  private static func entries(
    _ library: PluginLibrary, _ registry: Registry
  ) throws(StatusError) -> [FunctionEntry] {
    var entries: [FunctionEntry] = []
    for index in 0..<Int(library.plugin.pointee.function_count) {
      let function = library.plugin.pointee.functions[index]
      guard let entry = registry.table.entries.first(where: { $0.function == function }) else {
        throw StatusError(.internal, "function \(index) is not registered")
      }
      entries.append(entry)
    }
    return entries
  }

  // MARK: - Messages

  private static func receive(_ memory: MessageMemory, _ descriptors: inout ReceivedNumbers) -> Int
  {
    withUnsafeMutablePointer(to: &descriptors) {
      clinux_receive_message(
        socket, memory.base, Order.bytesMax, $0.pointee.numbers, &$0.pointee.count, 1)
    }
  }

  private static func send(_ bytes: UnsafeRawBufferPointer) {
    _ = clinux_send_message(socket, bytes.baseAddress, bytes.count, nil, 0, 1)
  }

  private func serve() {
    var descriptors = ReceivedNumbers()
    while true {
      // The one that no call is using.
      let busy = current.withLock { $0?.message }
      let memory = incoming[0] === busy ? incoming[1] : incoming[0]
      let count = PluginProcess.receive(memory, &descriptors)
      if count <= 0 { return }
      var order = Unpacker(memory.bytes(count))
      let kind = Order(rawValue: order.take())
      _ = order.take(UInt32.self)
      let call: UInt64 = order.take()
      if let kind { clinux_store(words.begun, kind.mark(call)) }
      switch kind {
      case .evaluate: evaluate(call, &order, memory, count, descriptors.take())
      case .run: run(call, &order, descriptors.take())
      case .finish:
        finish(call, &order)
        memory.clear(count)
      case .merge:
        merge(call, &order)
        memory.clear(count)
      case .forget: forget(call)
      case .close:
        closeLibrary(staysMapped: order.take(UInt32.self) != 0)
        return
      default: return
      }
    }
  }

  // MARK: - Calls

  private func evaluate(
    _ id: UInt64, _ order: inout Unpacker, _ memory: MessageMemory, _ count: Int,
    _ descriptors: [Int32]
  ) {
    // Waits until the answer before has left.
    pthread_mutex_lock(answering)
    pthread_mutex_unlock(answering)
    let index = Int(order.take(UInt32.self))
    guard entries.indices.contains(index) else {
      for descriptor in descriptors { _ = close(descriptor) }
      return fail(id, StatusError(.internal, "the daemon named function \(index)"))
    }
    let call = ProcessCall(id, Evaluation(entries[index]), memory, count, segments)
    // One that was planned and is not wanted any more.
    let before = current.withLock { current in
      defer { current = call }
      return current
    }
    before?.clear()
    do throws(StatusError) {
      call.evaluation.heedStopOrder(words.stop, number: id)
      try call.decode(&order, descriptors)
      memory.protect(count)
      let evaluation = call.evaluation
      try evaluation.makePlan()
      let isSmall =
        evaluation.plan.resultBytes <= Order.ownResultBytes
        && evaluation.plan.workspaceBytes <= Order.ownWorkspaceBytes
        && evaluation.plan.scratchBytes <= Order.ownScratchBytes
      guard isSmall else { return planned(call) }
      try evaluation.bind(
        results: ownResults.base, workspace: evaluation.plan.workspaceBytes > 0 ? ownWorkspace : nil
      )
      guard evaluation.plan.cost <= PluginProcess.ownCost else { return compute(call) }
      evaluation.runToEnd(scratch: ownScratch.base)
      ownScratch.clear(evaluation.plan.scratchBytes)
      computed(call)
    } catch {
      call.evaluation.fail(error)
      computed(call)
    }
  }

  private func planned(_ call: ProcessCall) {
    call.isPlanned = true
    var answer = Packer(outgoing.all)
    answer.put(planned: call.evaluation, call.id)
    PluginProcess.send(answer.bytes)
  }

  private func run(_ id: UInt64, _ order: inout Unpacker, _ descriptors: [Int32]) {
    guard let call = current.withLock({ $0?.id == id ? $0 : nil }) else {
      for descriptor in descriptors { _ = close(descriptor) }
      return
    }
    do throws(StatusError) {
      let evaluation = call.evaluation
      var results = ownResults.base
      if order.take(UInt32.self) != 0 {
        results = try call.openResults(&order, descriptors)
      } else if evaluation.plan.resultBytes > Order.ownResultBytes {
        throw StatusError(.internal, "the daemon gave no memory for the results")
      }
      let workspace =
        evaluation.plan.workspaceBytes > Order.ownWorkspaceBytes
        ? try AlignedBuffer(reserving: evaluation.plan.workspaceBytes) : ownWorkspace
      try evaluation.bind(
        results: results, workspace: evaluation.plan.workspaceBytes > 0 ? workspace : nil)
      compute(call)
    } catch {
      call.evaluation.fail(error)
      computed(call)
    }
  }

  private func compute(_ call: ProcessCall) {
    workers.submit(call.evaluation, group: group) { [unowned self] _ in computed(call) }
  }

  /// Answers, and leaves nothing of the call behind.
  private func computed(_ call: ProcessCall) {
    pthread_mutex_lock(answering)
    defer { pthread_mutex_unlock(answering) }
    let evaluation = call.evaluation
    var answer = Packer(outgoing.all)
    if let error = evaluation.error {
      answer.put(failure: error, call.id)
    } else {
      answer.put(
        computed: evaluation, call.id, bringsPlan: !call.isPlanned,
        results: call.hasResultSegment ? nil : ownResults.base)
    }
    if answer.isFull {
      answer = Packer(outgoing.all)
      answer.put(
        failure: StatusError(.internal, "its answer takes more than \(Order.bytesMax) bytes"),
        call.id)
    }
    // The daemon need not wait for what follows; the next call does.
    PluginProcess.send(answer.bytes)
    outgoing.clear(answer.count)
    call.clear()
    if evaluation.plan.resultBytes <= Order.ownResultBytes {
      ownResults.clear(evaluation.plan.resultBytes)
    }
    for id in forgotten { segments.forget(id) }
    forgotten.removeAll()
    current.withLock { $0 = nil }
  }

  /// The daemon has no use for a segment any more.
  private func forget(_ id: UInt64) {
    pthread_mutex_lock(answering)
    defer { pthread_mutex_unlock(answering) }
    // A call may be using it.
    if current.withLock({ $0 != nil }) { forgotten.append(id) } else { segments.forget(id) }
  }

  private func fail(_ id: UInt64, _ error: StatusError) {
    var answer = Packer(outgoing.all)
    answer.put(failure: error, id)
    PluginProcess.send(answer.bytes)
  }

  /// As the daemon would, were the library its own.
  private func closeLibrary(staysMapped: Bool) {
    entries.removeAll()
    var end = library?.takeEnd()
    end?.staysMapped = staysMapped
    library = nil
    _ = end?.close("a plugin that is being unloaded", CLINUX_WATCH_CRASHES) { true }
    var answer = Packer(outgoing.all)
    answer.put(Order.closed, 0)
    PluginProcess.send(answer.bytes)
  }

  // MARK: - Sums

  private func finish(_ id: UInt64, _ order: inout Unpacker) {
    do throws(StatusError) {
      let evaluation = try beginSums(&order)
      defer { evaluation.erase() }
      for index in 0..<evaluation.entry.attributes.count {
        let value = order.takeAttribute()
        if case .none = value { continue }
        try evaluation.request.setAttribute(index, value)
      }
      let sums = try takeSums(&order, evaluation)
      let values = try evaluation.summaryValues(sums)
      var answer = Packer(outgoing.all)
      answer.put(Order.answer, id)
      answer.put(AnswerKind.values.rawValue)
      answer.put(UInt32(values.count))
      for value in values {
        answer.put(UInt32(value == nil ? 0 : 1))
        answer.put(value ?? 0)
      }
      PluginProcess.send(answer.bytes)
      outgoing.clear(answer.count)
    } catch { fail(id, error) }
  }

  private func merge(_ id: UInt64, _ order: inout Unpacker) {
    do throws(StatusError) {
      let evaluation = try beginSums(&order)
      let into = try takeSums(&order, evaluation)
      let from = try takeSums(&order, evaluation)
      guard evaluation.entry.mergesByItself else {
        throw StatusError(.internal, "the daemon asked for a merge that is its own")
      }
      var total = Accumulator(own: into)
      try total.merge(Accumulator(own: from), evaluation.entry)
      var answer = Packer(outgoing.all)
      answer.put(Order.answer, id)
      answer.put(AnswerKind.merged.rawValue)
      answer.put(total.own)
      PluginProcess.send(answer.bytes)
      outgoing.clear(answer.count)
    } catch { fail(id, error) }
  }

  private func beginSums(_ order: inout Unpacker) throws(StatusError) -> Evaluation {
    let index = Int(order.take(UInt32.self))
    guard entries.indices.contains(index) else {
      throw StatusError(.internal, "the daemon named function \(index)")
    }
    return Evaluation(entries[index])
  }

  private func takeSums(
    _ order: inout Unpacker, _ evaluation: Evaluation
  ) throws(StatusError) -> [Double] {
    let sums = order.takeDoubles()
    guard sums.count == evaluation.entry.accumulatorCount else {
      throw StatusError(.internal, "the daemon sent \(sums.count) sums")
    }
    return sums
  }
}

/// How many threads the process has: /proc is opened while that is possible, and closed with this.
private final class ThreadCount {
  private let folder = opendir("/proc/self/task")

  deinit { if let folder { closedir(folder) } }

  var isMoreThanOne: Bool {
    guard let folder else { return false }
    rewinddir(folder)
    var count = 0
    // Beside . and ..
    while readdir(folder) != nil { count += 1 }
    return count > 3
  }
}

/// Lets one thread wait until others have counted far enough.
private final class Counter: Sendable {
  private let count = Atomic<Int>(0)
  func add() { count.add(1, ordering: .releasing) }
  func wait(for value: Int) {
    while count.load(ordering: .acquiring) < value { usleep(100) }
  }
}
