# The counter as a GenServer of Elixir: in one VM, or with --nodes on another node of the same machine.
# Started by peers.py; tells what it measures as the others do, see reporting.py.

{:module, _, code, _} =
  defmodule Counter do
    use GenServer

    def start_link(name), do: GenServer.start_link(__MODULE__, 0, name: name)
    def child_spec(name), do: %{id: name, start: {__MODULE__, :start_link, [name]}}

    @impl true
    def init(start), do: {:ok, start}
    @impl true
    def handle_cast(:inc, n), do: {:noreply, n + 1}
    @impl true
    def handle_call(:inc, _from, n), do: {:reply, n + 1, n + 1}
  end

defmodule Bench do
  @calls 20_000
  @casts 100_000

  def now, do: System.monotonic_time(:nanosecond)
  def tell(text), do: IO.puts(text)

  def timed(fun) do
    started = now()
    fun.()
    now() - started
  end

  def calls(server) do
    for _ <- 1..2_000, do: GenServer.call(server, :inc)
    samples = Enum.sort(for _ <- 1..@calls, do: timed(fn -> GenServer.call(server, :inc) end))
    p50 = Enum.at(samples, div(@calls, 2)) / 1000
    p99 = Enum.at(samples, div(@calls * 99, 100)) / 1000
    tell(~s({"call": [#{p50}, #{p99}]}))
  end

  def casts(server) do
    ns =
      timed(fn ->
        for _ <- 1..@casts, do: GenServer.cast(server, :inc)
        GenServer.call(server, :inc, 60_000)
      end)

    tell(~s({"cast": #{@casts / ns * 1.0e9}}))
  end

  def median_ms(samples), do: Enum.at(Enum.sort(samples), div(length(samples), 2)) / 1.0e6

  def answers(name, old) do
    case Process.whereis(name) do
      pid when is_pid(pid) and pid != old ->
        try do
          GenServer.call(pid, :inc)
        catch
          :exit, _ -> answers(name, old)
        end

      _ ->
        answers(name, old)
    end
  end
end

Bench.tell(~s({"version": "Elixir #{System.version()}, OTP #{System.otp_release()}"}))

if "--nodes" in System.argv() do
  {:ok, _peer, node} = :peer.start_link(%{name: :peer.random_name()})
  :ok = :erpc.call(node, :code, :add_paths, [:code.get_path()])
  {:module, Counter} = :erpc.call(node, :code, :load_binary, [Counter, ~c"counter.exs", code])
  {:ok, server} = :erpc.call(node, GenServer, :start, [Counter, 0])
  Bench.calls(server)
  Bench.casts(server)

  starts =
    for _ <- 1..50 do
      Bench.timed(fn ->
        {:ok, pid} = :erpc.call(node, GenServer, :start, [Counter, 0])
        GenServer.call(pid, :inc)
      end)
    end

  Bench.tell(~s({"start": #{Bench.median_ms(starts)}}))
  Bench.tell(~s({"note": "two VMs on this machine"}))
else
  {:ok, sup} = DynamicSupervisor.start_link(max_restarts: 1_000)
  {:ok, server} = DynamicSupervisor.start_child(sup, {Counter, :counter})
  Bench.calls(server)
  Bench.casts(server)

  starts =
    for n <- 1..50 do
      Bench.timed(fn ->
        {:ok, pid} = DynamicSupervisor.start_child(sup, {Counter, :"counter#{n}"})
        GenServer.call(pid, :inc)
      end)
    end

  Bench.tell(~s({"start": #{Bench.median_ms(starts)}}))
  {:memory, bytes} = Process.info(Process.whereis(:counter1), :memory)
  Bench.tell(~s({"memory": #{bytes / 1.0e6}}))

  restarts =
    for _ <- 1..50 do
      old = Process.whereis(:counter)

      Bench.timed(fn ->
        Process.exit(old, :kill)
        Bench.answers(:counter, old)
      end)
    end

  Bench.tell(~s({"restart": #{Bench.median_ms(restarts)}}))
  Bench.tell(~s({"note": "processes of the VM: kill -9 ends all, the restart is after Process.exit(pid, :kill)"}))
end
