import CLossdPlugin
import Glibc
import LossdCatalogue
import LossdEngine
import LossdTensor
import Testing

@testable import LossdPluginHost

/// Messages are written over memory that held something else: none of it is to be sent.
@Suite struct PoisonTests {
  /// What a message is when it is written over zeros, which has to be what it is over anything
  /// else.
  private func expectWhole(_ name: String, _ body: (inout Packer) -> Void) {
    var messages: [[UInt8]] = []
    for poison: UInt8 in [0, 0xA5, 0xFF] {
      let memory = UnsafeMutableRawBufferPointer.allocate(
        byteCount: Order.bytesMax, alignment: 4096)
      defer { memory.deallocate() }
      memory.initializeMemory(as: UInt8.self, repeating: poison)
      var packer = Packer(memory)
      body(&packer)
      #expect(!packer.isFull && packer.count > 0, "\(name)")
      messages.append(Array(packer.bytes))
    }
    #expect(messages[0] == messages[1] && messages[0] == messages[2], "\(name)")
  }

  @Test("every byte of an answer is written")
  func answers() throws {
    let tensors = Tensors()
    let entry = try Library.entry("cross_entropy", isElsewhere: false)
    let evaluation = Evaluation(entry)
    try evaluation.request.setInput(0, tensors.make([Float(1), 2, 3, 4, 5, 7], .float32, [2, 3]))
    try evaluation.request.setInput(1, tensors.make([Int64(2), 0], .int64, [2]))
    try evaluation.request.want(0)
    try evaluation.request.want(1)
    try evaluation.makePlan()
    let results = AlignedBuffer.zeroed(count: evaluation.plan.resultBytes)
    expectWhole("planned") { $0.put(planned: evaluation, 7) }
    for bringsPlan in [true, false] {
      expectWhole("computed") {
        $0.put(computed: evaluation, 7, bringsPlan: bringsPlan, results: results.base)
      }
    }
    expectWhole("failed") { $0.put(failure: StatusError(.internal, "words"), 7) }
    expectWhole("attributes") { $0.put(attributesOf: evaluation) }
    expectWhole("declarations") { DescriptorImage.pack(cataloguePlugin().pointee, into: &$0) }
    expectWhole("places") {
      $0.put(UInt8(1))
      _ = $0.room(0, alignment: 64)
      $0.put(UInt8(1))
      $0.put("text")
      if let place = $0.room(3, alignment: 4096) { memset(place, 1, 3) }
    }
  }

  @Test("every byte of an order is written")
  func orders() throws {
    var messages: [[UInt8]] = []
    // The second order of a link lies where a longer one was.
    for isFirst in [true, false] {
      let process = try FakeProcess()
      let tensors = Tensors()
      let entry = try Library.entry("sigmoid", isElsewhere: true)
      func evaluate(_ values: [Float]) throws -> [UInt8] {
        let evaluation = Evaluation(entry)
        try evaluation.request.setInput(0, tensors.make(values, .float32, [Int64(values.count)]))
        evaluation.request.wantDefault()
        try process.link.evaluate(evaluation, function: 0, segments: [])
        let count = try process.hear().bytes
        process.link.settle()
        return Array(process.memory.bytes(count))
      }
      if !isFirst { _ = try evaluate([Float](repeating: -1.5, count: 4000)) }
      var message = try evaluate([1, 2, 3])
      // The order's number.
      for index in 8..<16 { message[index] = 0 }
      messages.append(message)
    }
    #expect(messages[0] == messages[1])
  }

  @Test("a time of a file is a number whatever it says")
  func times() {
    for seconds in [Int.min, -1, 0, 1_700_000_000, 1 << 33, Int.max] {
      for rest in [Int.min, 0, 999_999_999, Int.max] {
        let time = PluginFile.Identity.nanoseconds(timespec(tv_sec: seconds, tv_nsec: rest))
        // Differences of two are numbers too.
        #expect(time > -(1 << 62) && time < 6_000_000_000_000_000_000)
        #expect(!(1_700_000_000_000_000_000).subtractingReportingOverflow(time).overflow)
      }
    }
    let known = PluginFile.Identity.nanoseconds(timespec(tv_sec: 1_700_000_000, tv_nsec: 5))
    #expect(known == 1_700_000_000_000_000_005)
  }

  @Test("what a process cannot be kept from is said once, whatever bits it sends")
  func gaps() {
    #expect(ConfinementGaps(rawValue: 0xFFFF_FF00).text.isEmpty)
    #expect(ConfinementGaps.files.union(.signals).text.contains("Landlock (Linux 5.13)"))
    #expect(ConfinementGaps(rawValue: 1 << 20).takeLine() == nil)
    let first = ConfinementGaps.limits.takeLine()
    #expect(first?.contains("plugins.confinement") ?? false)
    #expect(ConfinementGaps.limits.takeLine() == nil)
  }
}
